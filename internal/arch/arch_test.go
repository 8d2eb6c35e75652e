package arch

import (
	"errors"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const root = "../.."

func TestImportsOnlyGoDown(t *testing.T) {
	packages, edges, err := read(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	// A reader that finds nothing would find no fault either.
	if self := (edge{"internal/arch/arch_test.go", "internal/arch", "go/parser"}); !slices.Contains(edges, self) {
		t.Errorf("%v is not among the %d imports that were read", self, len(edges))
	}
	for _, v := range violations(packages, edges) {
		t.Error(v)
	}
}

func TestTopLevelFoldersAreTheKnownOnes(t *testing.T) {
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	if !slices.Contains(names, "internal") {
		t.Errorf("got %q, which is not the project's root", names)
	}
	for _, name := range strays(names) {
		t.Errorf("%s: no such top-level folder is planned; put it below one of %s", name, strings.Join(folders, ", "))
	}
}

// read lists the packages of the module in tree and every import line in them, whatever its platform or build
// tags. Like the go command it leaves out testdata, hidden folders, and modules inside the module.
func read(tree fs.FS) (packages []string, edges []edge, err error) {
	err = fs.WalkDir(tree, ".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return enter(tree, file)
		}
		if path.Ext(file) != ".go" || strings.HasPrefix(d.Name(), ".") || strings.HasPrefix(d.Name(), "_") {
			return nil
		}
		from := path.Dir(file)
		if !slices.Contains(packages, from) {
			packages = append(packages, from)
		}
		imports, err := importsOf(tree, file)
		for _, to := range imports {
			edges = append(edges, edge{file: file, from: from, to: to})
		}
		return err
	})
	return packages, edges, err
}

// enter says whether a folder is part of the module: nil or fs.SkipDir.
func enter(tree fs.FS, folder string) error {
	if folder == "." {
		return nil
	}
	name := path.Base(folder)
	if name == "testdata" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") {
		return fs.SkipDir
	}
	switch _, err := fs.Stat(tree, folder+"/go.mod"); {
	case err == nil:
		return fs.SkipDir
	case errors.Is(err, fs.ErrNotExist):
		return nil
	default:
		return err
	}
}

func importsOf(tree fs.FS, file string) ([]string, error) {
	source, err := fs.ReadFile(tree, file)
	if err != nil {
		return nil, err
	}
	parsed, err := parser.ParseFile(token.NewFileSet(), file, source, parser.ImportsOnly)
	if err != nil {
		return nil, err
	}
	var imports []string
	for _, spec := range parsed.Imports {
		to, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		imports = append(imports, to)
	}
	return imports, nil
}
