package node_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"
)

// The README's hello worlds are the bodies of the examples, so they compile and run.
func TestReadmeShowsTheExamples(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	src, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, "example_test.go", src, 0)
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
			t.Errorf("README.md has no block with the body of %s:\n%s", fn.Name.Name, body)
		}
	}
	if found < 3 {
		t.Errorf("%d examples, want one per pattern", found)
	}
}

// exampleBody is a function's body without indentation and expected output.
func exampleBody(s string) string {
	s, _, _ = strings.Cut(s, "\t// Output")
	s = strings.ReplaceAll("\n"+strings.Trim(s, "\n"), "\n\t", "\n")
	return strings.TrimPrefix(s, "\n") + "\n"
}
