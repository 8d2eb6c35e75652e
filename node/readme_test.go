package node_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"
)

// The hello worlds of the README and the blocks of the guide are the bodies of examples, so they compile and run.
func TestDocsShowTheExamples(t *testing.T) {
	showsExamples(t, "../README.md", "example_test.go", 3)
	showsExamples(t, "../docs/EMBED.md", "guide_test.go", 2)
}

func showsExamples(t *testing.T, page, examples string, least int) {
	t.Helper()
	readme, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	src, err := os.ReadFile(examples)
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, examples, src, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || !strings.HasPrefix(fn.Name.Name, "Example") {
			continue
		}
		found++
		if body := exampleBody(string(src[fset.Position(fn.Body.Lbrace).Offset+1 : fset.Position(fn.Body.Rbrace).Offset])); !strings.Contains(string(readme), "```go\n"+body+"```") {
			t.Errorf("%s has no block with the body of %s:\n%s", page, fn.Name.Name, body)
		}
	}
	if found < least {
		t.Errorf("%s: %d examples, want %d", examples, found, least)
	}
}

// exampleBody is a function's body without indentation and expected output.
func exampleBody(s string) string {
	s, _, _ = strings.Cut(s, "\t// Output")
	s = strings.ReplaceAll("\n"+strings.Trim(s, "\n"), "\n\t", "\n")
	return strings.TrimPrefix(s, "\n") + "\n"
}
