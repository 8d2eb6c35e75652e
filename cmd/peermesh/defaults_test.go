package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"

	"peermesh/node"
	"peermesh/node/zmtp"
	"peermesh/patterns"
	"peermesh/socket"
)

// documented are the defaults and bounds of docs/DEFAULTS.md.
var documented = map[string]any{
	"node.DefaultNamespace":        node.DefaultNamespace,
	"node.DefaultListen":           node.DefaultListen,
	"node.DefaultMaxMessage":       node.DefaultMaxMessage,
	"node.DefaultLargeBudget":      node.DefaultLargeBudget,
	"node.DefaultHandshakeTimeout": node.DefaultHandshakeTimeout,
	"node.DefaultInviteTTL":        node.DefaultInviteTTL,
	"node.DefaultInviteUses":       node.DefaultInviteUses,
	"node.MaxInviteTTL":            node.MaxInviteTTL,
	"node.MaxInviteUses":           node.MaxInviteUses,
	"patterns.DefaultQueue":        patterns.DefaultQueue,
	"patterns.DefaultQueueBytes":   patterns.DefaultQueueBytes,
	"patterns.DefaultMaxDeliver":   patterns.DefaultMaxDeliver,
	"patterns.DefaultDeadline":     patterns.DefaultDeadline,
	"patterns.DefaultConcurrency":  patterns.DefaultConcurrency,
	"patterns.DefaultBackoff":      patterns.DefaultBackoff,
	"patterns.DefaultMaxBackoff":   patterns.DefaultMaxBackoff,
	"patterns.MaxTxOps":            patterns.MaxTxOps,
	"patterns.MaxTxValues":         patterns.MaxTxValues,
	"socket.DefaultPrefetch":       socket.DefaultPrefetch,
	"socket.DefaultPrefetchBytes":  socket.DefaultPrefetchBytes,
	"socket.DefaultLease":          socket.DefaultLease,
	"socket.MaxDelay":              socket.MaxDelay,
	"zmtp.DefaultQueue":            zmtp.DefaultQueue,
	"zmtp.DefaultQueueBytes":       zmtp.DefaultQueueBytes,
	"zmtp.DefaultMaxParts":         zmtp.DefaultMaxParts,
	"zmtp.DefaultMaxPeers":         zmtp.DefaultMaxPeers,
	"zmtp.DefaultHandshakeTimeout": zmtp.DefaultHandshakeTimeout,
	"zmtp.DefaultHandshakeRate":    zmtp.DefaultHandshakeRate,
	"zmtp.DefaultHeartbeat":        zmtp.DefaultHeartbeat,
	"zmtp.DefaultHeartbeatTimeout": zmtp.DefaultHeartbeatTimeout,
	"zmtp.DefaultTimeout":          zmtp.DefaultTimeout,
}

func TestDefaultsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/DEFAULTS.md")
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z]+\\.[A-Za-z]+)` \\| ([^|]+) \\|").FindAllStringSubmatch(string(page), -1) {
		told[row[1]] = row[2]
	}
	for name, value := range documented {
		if want := fmt.Sprint(value); told[name] != want {
			t.Errorf("docs/DEFAULTS.md says %s is %q, it is %q", name, told[name], want)
		}
		delete(told, name)
	}
	for name := range told {
		t.Errorf("docs/DEFAULTS.md speaks of %s; there is no such constant", name)
	}
	for _, dir := range []string{"node", "patterns", "socket", "node/zmtp"} {
		for _, name := range limitsIn(t, "../../"+dir) {
			if full := path.Base(dir) + "." + name; documented[full] == nil {
				t.Errorf("%s is not in docs/DEFAULTS.md", full)
			}
		}
	}
}

// limitsIn lists the exported constants of a package whose names begin with Default or Max.
func limitsIn(t *testing.T, dir string) (names []string) {
	t.Helper()
	files, err := fs.Glob(os.DirFS(dir), "*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %d files, %v", dir, len(files), err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), path.Join(dir, file), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.CONST {
				continue
			}
			for _, s := range g.Specs {
				for _, n := range s.(*ast.ValueSpec).Names {
					if strings.HasPrefix(n.Name, "Default") || strings.HasPrefix(n.Name, "Max") {
						names = append(names, n.Name)
					}
				}
			}
		}
	}
	return names
}
