package arch

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func TestViolationsAreReported(t *testing.T) {
	for name, tc := range map[string]struct {
		file, to string
		want     string // part of what is reported, nothing if all is well
	}{
		"down one floor":                  {"patterns/push.go", "peermesh/socket", ""},
		"down several floors":             {"cmd/peermesh/main.go", "peermesh/internal/identity", ""},
		"the standard library":            {"socket/pipe.go", "net/netip", ""},
		"patterns keep":                   {"patterns/push.go", "peermesh/spool", ""},
		"up one floor":                    {"socket/pipe.go", "peermesh/patterns", "an arrow up, from floor 1 to 2"},
		"up from a test":                  {"socket/pipe_test.go", "peermesh/node/meshtest", "an arrow up, from floor 1 to 3"},
		"patterns to node":                {"patterns/push.go", "peermesh/node", "an arrow up, from floor 2 to 3"},
		"node to a command":               {"node/node.go", "peermesh/cmd/peermesh/show", "an arrow up, from floor 3 to 4"},
		"spool to anything":               {"spool/spool.go", "peermesh/internal/ranges", "own floor 0"},
		"discovery to anything":           {"discovery/mdns_test.go", "peermesh/internal/identity", "own floor 0"},
		"spool upwards":                   {"spool/spool.go", "peermesh/socket", "an arrow up, from floor 0 to 1"},
		"wire to identity":                {"internal/wire/hello.go", "peermesh/internal/identity", ""},
		"wire to topic":                   {"internal/wire/offer.go", "peermesh/internal/topic", "own floor 0"},
		"identity to wire":                {"internal/identity/id.go", "peermesh/internal/wire", "own floor 0"},
		"socket to spool":                 {"socket/pipe.go", "peermesh/spool", "socket must not know it"},
		"socket to discovery":             {"socket/pipe.go", "peermesh/discovery", "socket must not know it"},
		"patterns to discovery":           {"patterns/push.go", "peermesh/discovery", "patterns must not know it"},
		"typed to discovery":              {"patterns/typed/push.go", "peermesh/discovery", "patterns/typed must not know it"},
		"typed to patterns":               {"patterns/typed/push.go", "peermesh/patterns", ""},
		"patterns to typed":               {"patterns/push.go", "peermesh/patterns/typed", "own floor 2"},
		"gateway to node":                 {"node/gateway/http.go", "peermesh/node", ""},
		"node to gateway":                 {"node/node.go", "peermesh/node/gateway", "own floor 3"},
		"gateway to the bridge":           {"node/gateway/http.go", "peermesh/node/zmtp", "own floor 3"},
		"node to its simulation":          {"node/node.go", "peermesh/node/meshtest", "own floor 3"},
		"node's tests to it":              {"node/node_test.go", "peermesh/node/meshtest", ""},
		"a test of the package":           {"socket/pipe_test.go", "peermesh/socket", ""},
		"commands among them":             {"cmd/peermesh/main.go", "peermesh/cmd/peermesh/show", ""},
		"an example to node":              {"examples/hello/main.go", "peermesh/node", ""},
		"an example to ours":              {"examples/hello/main.go", "peermesh/internal/wire", "examples/hello must not know it"},
		"an example to a command":         {"examples/hello/main.go", "peermesh/cmd/peermesh", "examples/hello must not know it"},
		"a package unheard of":            {"internal/helper/a.go", "fmt", "internal/helper: name a floor for it"},
		"below one that is":               {"socket/inner/a.go", "fmt", "socket/inner: name a floor for it"},
		"the root":                        {"mesh.go", "fmt", ".: name a floor for it"},
		"to a package unheard of":         {"node/node.go", "peermesh/internal/helper", "no floor is named"},
		"to the root":                     {"node/node.go", "peermesh", "no floor is named"},
		"badger at home":                  {"spool/spool.go", "github.com/dgraph-io/badger/v4/options", ""},
		"badger elsewhere":                {"node/node.go", "github.com/dgraph-io/badger/v4", "only spool may"},
		"mdns elsewhere":                  {"node/node.go", "github.com/hashicorp/mdns", "only discovery may"},
		"dns elsewhere":                   {"node/node.go", "github.com/miekg/dns", "only discovery may"},
		"quic at home":                    {"node/link.go", "github.com/quic-go/quic-go", ""},
		"quic below its home":             {"node/meshtest/net.go", "github.com/quic-go/quic-go/testutils/simnet", ""},
		"quic elsewhere":                  {"socket/pipe.go", "github.com/quic-go/quic-go", "only node/... may"},
		"quic in a test elsewhere":        {"socket/pipe_test.go", "github.com/quic-go/quic-go", "only node/... may"},
		"zmq4 at home":                    {"node/zmtp/bridge.go", "github.com/go-zeromq/zmq4", ""},
		"zmq4 elsewhere":                  {"node/node.go", "github.com/go-zeromq/zmq4", "only node/zmtp may"},
		"cobra at home":                   {"cmd/peermesh/push/push.go", "github.com/spf13/cobra", ""},
		"cobra elsewhere":                 {"node/node.go", "github.com/spf13/cobra", "only cmd/peermesh/... may"},
		"yaml elsewhere":                  {"examples/hello/main.go", "github.com/goccy/go-yaml", "only cmd/peermesh/..., node/metrics may"},
		"term elsewhere":                  {"node/node.go", "golang.org/x/term", "only cmd/peermesh/... may"},
		"rapid in a test":                 {"internal/ranges/set_test.go", "pgregory.net/rapid", ""},
		"rapid in a package":              {"internal/ranges/set.go", "pgregory.net/rapid", "a library for tests only"},
		"goleak in a package":             {"socket/pipe.go", "go.uber.org/goleak", "a library for tests only"},
		"goleak in meshtest":              {"node/meshtest/mesh.go", "go.uber.org/goleak", ""},
		"testscript in the command":       {"cmd/peermesh/main.go", "github.com/rogpeppe/go-internal/testscript", "a library for tests only"},
		"testscript in its test":          {"cmd/peermesh/main_test.go", "github.com/rogpeppe/go-internal/testscript", ""},
		"x/sys anywhere":                  {"spool/disk.go", "golang.org/x/sys/unix", ""},
		"a library unheard of":            {"node/node.go", "github.com/spf13/viper", "name a home for this library"},
		"one whose name begins like ours": {"node/node.go", "peermesh.example/x", "name a home for this library"},
		"one that begins like a library":  {"spool/spool.go", "github.com/dgraph-io/badger/v40", "name a home for this library"},
		"cgo":                             {"spool/disk.go", "C", "no cgo"},
	} {
		t.Run(name, func(t *testing.T) {
			tree := fstest.MapFS{tc.file: {Data: []byte("package p\nimport _ \"" + tc.to + "\"\n")}}
			packages, edges, err := read(tree)
			if err != nil {
				t.Fatal(err)
			}
			got := violations(packages, edges)
			switch {
			case tc.want == "" && len(got) > 0:
				t.Errorf("%s imports %s: got %q, want nothing", tc.file, tc.to, got)
			case tc.want != "" && (len(got) != 1 || !strings.Contains(got[0], tc.want)):
				t.Errorf("%s imports %s: got %q, want one with %q", tc.file, tc.to, got, tc.want)
			}
		})
	}
}

func TestStrayFoldersAreReported(t *testing.T) {
	got := strays([]string{".git", "node", "util", "pkg", "cmd"})
	if want := []string{"util", "pkg"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestReadTakesTheModulesFilesAndNoOthers(t *testing.T) {
	source := func(body string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(body)} }
	tree := fstest.MapFS{
		"go.mod":                     source("module peermesh"),
		"node/node.go":               source("package node\nimport (\n\"fmt\"\n. \"os\"\nx `io`\n)\nfunc broken("),
		"node/node_windows.go":       source("//go:build windows\npackage node\nimport \"syscall\""),
		"node/node_test.go":          source("//go:build lab\npackage node_test\nimport \"testing\""),
		"node/_draft.go":             source("package node\nimport \"unsafe\""),
		"node/notes.txt":             source("import \"unsafe\""),
		"node/testdata/a.go":         source("package a\nimport \"unsafe\""),
		".ci/a.go":                   source("package a\nimport \"unsafe\""),
		"adapters/watermill/go.mod":  source("module peermesh/adapters/watermill"),
		"adapters/watermill/a.go":    source("package a\nimport \"unsafe\""),
		"adapters/watermill/b/b.go":  source("package b\nimport \"unsafe\""),
		"internal/wire/doc.go":       source("// Package wire imports nothing.\npackage wire"),
		"examples/hello/hello/hi.go": source("package hello"),
	}
	packages, edges, err := read(tree)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"examples/hello/hello", "internal/wire", "node"}; !slices.Equal(packages, want) {
		t.Errorf("packages: got %q, want %q", packages, want)
	}
	want := []edge{
		{"node/node.go", "node", "fmt"}, {"node/node.go", "node", "os"}, {"node/node.go", "node", "io"},
		{"node/node_test.go", "node", "testing"}, {"node/node_windows.go", "node", "syscall"},
	}
	if !slices.Equal(edges, want) {
		t.Errorf("imports:\n got %v\nwant %v", edges, want)
	}
}

func TestFileThatCannotBeParsedIsAnError(t *testing.T) {
	tree := fstest.MapFS{"node/node.go": {Data: []byte("package node\nimport fmt")}}
	if _, _, err := read(tree); err == nil {
		t.Error("got no error")
	}
}

// A pattern that fits two floors would make the answer depend on the order of a map.
func TestNoTwoFloorsClaimOnePackage(t *testing.T) {
	patterns := slices.Sorted(maps.Keys(floors))
	for _, a := range patterns {
		for _, b := range patterns {
			base, _ := strings.CutSuffix(b, "/...")
			if a != b && in(base, []string{a}) {
				t.Errorf("%s and %s overlap", a, b)
			}
		}
	}
}
