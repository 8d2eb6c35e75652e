package node_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"peermesh/node"
	"peermesh/patterns"
	"peermesh/socket"
	"peermesh/spool"

	"go.uber.org/goleak"
)

// descriptors counts the open files of this process.
func descriptors(t *testing.T) int {
	t.Helper()
	if runtime.GOOS != "linux" {
		return 0
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// leaksNothing asserts that f leaves goroutines and descriptors as they were.
func leaksNothing(t *testing.T, f func()) {
	t.Helper()
	ignore, before := goleak.IgnoreCurrent(), descriptors(t)
	f()
	if err := goleak.Find(ignore); err != nil {
		t.Error(err)
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}

// packets is a PacketConn that tells whether it was closed.
type packets struct {
	net.PacketConn
	closed bool
}

func (p *packets) Close() error {
	p.closed = true
	return p.PacketConn.Close()
}

func TestOpenWithABadConfigSaysWhyAndLeaksNothing(t *testing.T) {
	pem := newMesh(t)
	taken, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	locked := filepath.Join(t.TempDir(), "locked")
	holder, err := node.Open(t.Context(), node.Config{Name: "holder", MeshPEM: pem, Listen: "127.0.0.1:0", NoMDNS: true, Dir: locked})
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()
	over := context.Canceled
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx  context.Context
		edit func(*node.Config)
		says string // part of the error's text
		is   error
	}{
		"a context that is over":       {ended, func(*node.Config) {}, "canceled", over},
		"MaxMessage below zero":        {nil, func(c *node.Config) { c.MaxMessage = -1 }, "MaxMessage", nil},
		"MaxMessage too large":         {nil, func(c *node.Config) { c.MaxMessage = math.MaxInt }, "MaxMessage", nil},
		"a budget below one message":   {nil, func(c *node.Config) { c.LargeBudget = 1 }, "LargeBudget", nil},
		"Quota below zero":             {nil, func(c *node.Config) { c.Quota = -1 }, "Quota", nil},
		"HandshakeTimeout below zero":  {nil, func(c *node.Config) { c.HandshakeTimeout = -time.Second }, "HandshakeTimeout", nil},
		"a name too long":              {nil, func(c *node.Config) { c.Name = strings.Repeat("x", 256) }, "name", nil},
		"a name with NUL":              {nil, func(c *node.Config) { c.Name = "a\x00b" }, "name", nil},
		"a name not in UTF-8":          {nil, func(c *node.Config) { c.Name = "\xff" }, "name", nil},
		"a namespace too long":         {nil, func(c *node.Config) { c.Namespace = strings.Repeat("x", 256) }, "namespace", nil},
		"a namespace with ANSI":        {nil, func(c *node.Config) { c.Namespace = "\x1b[31m" }, "namespace", nil},
		"a mesh credential of rubbish": {nil, func(c *node.Config) { c.MeshPEM = []byte("rubbish") }, "mesh credential", nil},
		"a mesh credential that is not there": {nil, func(c *node.Config) { c.MeshPEM, c.Mesh = nil, filepath.Join(filepath.Dir(file), "none") },
			"mesh credential", os.ErrNotExist},
		"a directory that is a file": {nil, func(c *node.Config) { c.Dir = file }, "state directory", nil},
		"a directory below a file":   {nil, func(c *node.Config) { c.Dir = filepath.Join(file, "x") }, "state directory", nil},
		"a directory in use":         {nil, func(c *node.Config) { c.Dir = locked }, "", spool.ErrLocked},
		"an address of rubbish":      {nil, func(c *node.Config) { c.Listen = "rubbish" }, "listen address", nil},
		"a port too high":            {nil, func(c *node.Config) { c.Listen = "127.0.0.1:99999" }, "listen address", nil},
		"an address of another host": {nil, func(c *node.Config) { c.Listen = "192.0.2.1:0" }, "192.0.2.1", nil},
		"an address in use":          {nil, func(c *node.Config) { c.Listen = taken.LocalAddr().String() }, "in use", nil},
		"an address in use, with a Dir": {nil, func(c *node.Config) {
			c.Listen, c.Dir = taken.LocalAddr().String(), filepath.Join(filepath.Dir(file), "d1")
		}, "in use", nil},
		"a static peer of rubbish":     {nil, func(c *node.Config) { c.Peers = []string{"rubbish"} }, "rubbish", nil},
		"a static peer without a port": {nil, func(c *node.Config) { c.Peers = []string{"127.0.0.1:1", "10.0.0.1"} }, "10.0.0.1", nil},
		"a static peer, with a Dir":    {nil, func(c *node.Config) { c.Peers, c.Dir = []string{":"}, filepath.Join(filepath.Dir(file), "d2") }, "static peer", nil},
		"an interface glob of rubbish": {nil, func(c *node.Config) { c.MDNSAllow = []string{"eth["} }, "eth[", nil},
		"a denied interface's glob":    {nil, func(c *node.Config) { c.MDNSDeny = []string{"[]"} }, "[]", nil},
	} {
		t.Run(name, func(t *testing.T) {
			leaksNothing(t, func() {
				cfg := node.Config{Name: "n", MeshPEM: pem, Listen: "127.0.0.1:0", NoMDNS: true}
				c.edit(&cfg)
				ctx := c.ctx
				if ctx == nil {
					ctx = t.Context()
				}
				n, err := node.Open(ctx, cfg)
				if err == nil {
					n.Close()
					t.Fatal("opened")
				}
				if n != nil {
					t.Error("a node beside the error")
				}
				if !strings.Contains(err.Error(), c.says) || c.is != nil && !errors.Is(err, c.is) || strings.Contains(err.Error(), "\n") {
					t.Errorf("error %q, want one line with %q, matching %v", err, c.says, c.is)
				}
			})
		})
		t.Run(name+", with a PacketConn", func(t *testing.T) {
			if strings.Contains(name, "address") || strings.Contains(name, "port") {
				t.Skip("Listen is not used")
			}
			pc, err := net.ListenPacket("udp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			p := &packets{PacketConn: pc}
			cfg := node.Config{Name: "n", MeshPEM: pem, PacketConn: p}
			c.edit(&cfg)
			ctx := c.ctx
			if ctx == nil {
				ctx = t.Context()
			}
			if n, err := node.Open(ctx, cfg); err == nil {
				n.Close()
				t.Fatal("opened")
			}
			if !p.closed {
				t.Error("the PacketConn was left open")
			}
		})
	}
}

func TestOpenAndCloseAHundredTimesLeavesNothingBehind(t *testing.T) {
	pem := newMesh(t)
	dir := filepath.Join(t.TempDir(), "state")
	leaksNothing(t, func() {
		hub, err := node.Open(t.Context(), node.Config{Name: "hub", MeshPEM: pem, Listen: "127.0.0.1:0", NoMDNS: true})
		if err != nil {
			t.Fatal(err)
		}
		defer hub.Close()
		incarnation := uint64(0)
		for i := range 100 {
			cfg := node.Config{Name: fmt.Sprint(i), MeshPEM: pem, Listen: "127.0.0.1:0", NoMDNS: true, Peers: []string{hub.Addr().String()}}
			if i%10 == 0 {
				cfg.Dir = dir
			}
			n, err := node.Open(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			if cfg.Dir != "" {
				if n.Incarnation() <= incarnation {
					t.Errorf("incarnation %d after %d", n.Incarnation(), incarnation)
				}
				incarnation = n.Incarnation()
			}
			if i%3 == 0 {
				await(t, n, "hub up", func(e node.PeerEvent) bool { return e.State == node.Up })
			}
			if err := n.Close(); err != nil {
				t.Errorf("close %d: %v", i, err)
			}
		}
		if p := hub.Peers(); len(p) > 1 { // the last one's BYE may be on its way
			t.Errorf("the hub is linked to %+v", p)
		}
	})
}

func TestOfSocketsOpenedAtOnceUnderOneNameOneOpens(t *testing.T) {
	n := open(t, newMesh(t), "n")
	for name, f := range map[string]func() error{
		"push": func() error { _, err := n.Push("x"); return err },
		"pull": func() error { _, err := n.Pull("x"); return err },
		"pub":  func() error { _, err := n.Pub("x"); return err },
		"req":  func() error { _, err := n.Req("x"); return err },
		"rep":  func() error { _, err := n.Rep("x"); return err },
	} {
		errs := make(chan error, 20)
		for range cap(errs) {
			go func() { errs <- f() }()
		}
		opened := 0
		for range cap(errs) {
			if err := <-errs; err == nil {
				opened++
			} else if !errors.Is(err, node.ErrNameInUse) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if opened != 1 {
			t.Errorf("%d sockets %s x opened, want one", opened, name)
		}
	}
	labels := map[string]bool{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			s, err := n.Sub("x")
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if labels[s.Label()] {
				t.Errorf("label %q twice", s.Label())
			}
			labels[s.Label()] = true
		})
	}
	wg.Wait()
}

func TestNameOfASocketThatFailedToOpenOrClosedIsFree(t *testing.T) {
	n := open(t, newMesh(t), "n")
	for range 3 {
		if _, err := n.Pull("x", patterns.Queue(1, 1)); err == nil { // no option of a Pull
			t.Fatal("opened")
		}
		if _, err := n.Push("x", patterns.Durability(socket.Durable)); !errors.Is(err, socket.ErrNoDir) {
			t.Fatalf("a durable Push: %v, want ErrNoDir", err)
		}
		pull, err := n.Pull("x")
		if err != nil {
			t.Fatal(err)
		}
		push, err := n.Push("x")
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(pull.Close(), push.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSocketsOpenedDuringCloseAreClosedToo(t *testing.T) {
	pem := newMesh(t)
	for range 30 {
		n, err := node.Open(t.Context(), node.Config{Name: "n", MeshPEM: pem, Listen: "127.0.0.1:0", NoMDNS: true})
		if err != nil {
			t.Fatal(err)
		}
		begin := make(chan struct{})
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				<-begin
				var sockets []io.Closer
				var err error
				for k := 0; err == nil; k++ {
					var s io.Closer
					if s, err = n.Push(fmt.Sprint(i, k)); err == nil {
						sockets = append(sockets, s)
						s, err = n.Pull(fmt.Sprint(i, k))
					}
					if err == nil {
						sockets = append(sockets, s)
					}
				}
				if !errors.Is(err, net.ErrClosed) {
					t.Errorf("open: %v, want net.ErrClosed", err)
				}
				n.Close() // waits until it is over
				for _, s := range sockets {
					switch s := s.(type) {
					case *patterns.Push:
						err = s.Send(within(t, time.Second), nil)
					case *patterns.Pull:
						_, err = s.Recv(within(t, time.Second))
					}
					if !errors.Is(err, net.ErrClosed) {
						t.Errorf("%T after close: %v, want net.ErrClosed", s, err)
					}
				}
			})
		}
		close(begin)
		if err := n.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		wg.Wait()
		if s := n.Sockets(); len(s) != 0 {
			t.Errorf("closed, and has %+v", s)
		}
	}
}

func TestRestoredStateDirectoryIsRefusedAndRaisedAboveWhatWasSeen(t *testing.T) {
	pem := newMesh(t)
	hubDir := filepath.Join(t.TempDir(), "hub")
	hubConfig := node.Config{Name: "hub", MeshPEM: pem, Listen: "127.0.0.1:0", NoMDNS: true, Dir: hubDir}
	hub, err := node.Open(t.Context(), hubConfig)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { hub.Close() }()
	dir, backup := filepath.Join(t.TempDir(), "state"), filepath.Join(t.TempDir(), "backup")
	life := func(dir string) *node.Node {
		t.Helper()
		n, err := node.Open(t.Context(), node.Config{Name: "x", MeshPEM: pem, Listen: "127.0.0.1:0", NoMDNS: true, Dir: dir,
			Peers: []string{hub.Addr().String()}})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	up := func(e node.PeerEvent) bool { return e.State == node.Up }
	for i := range 4 {
		n := life(dir)
		await(t, n, "hub up", up)
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			if err := os.CopyFS(backup, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			private(t, backup)
		}
	}
	// The hub remembers over a restart of its own.
	if err := hub.Close(); err != nil {
		t.Fatal(err)
	}
	hubConfig.Listen = hub.Addr().String()
	if hub, err = node.Open(t.Context(), hubConfig); err != nil {
		t.Fatal(err)
	}
	restored := life(backup)
	if got := restored.Incarnation(); got != 3 {
		t.Fatalf("the backup's next life is %d, want 3", got)
	}
	if e := await(t, restored, "incarnation", refusedAs("incarnation")); !e.Remote || e.Reason == "" {
		t.Errorf("event %+v", e)
	}
	if p := hub.Peers(); len(p) != 0 {
		t.Errorf("the hub is linked to %+v", p)
	}
	if err := restored.Close(); err != nil {
		t.Fatal(err)
	}
	next := life(backup)
	defer next.Close()
	if got := next.Incarnation(); got <= 4 {
		t.Errorf("incarnation %d after 4 was seen", got)
	}
	await(t, next, "hub up", up)
}

// private takes everybody else's rights from a copied directory.
func private(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Chmod(p, 0o700)
		}
		return os.Chmod(p, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAtItsQuotaANodeRefusesToKeepMore(t *testing.T) {
	n, err := node.Open(t.Context(), node.Config{Name: "n", MeshPEM: newMesh(t), Listen: "127.0.0.1:0", NoMDNS: true, Dir: t.TempDir(), Quota: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	push, err := n.Push("jobs")
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; err == nil; i++ {
		if i == 100 {
			t.Fatal("ten times the quota was accepted")
		}
		err = push.Send(t.Context(), make([]byte, 100<<10))
	}
	if !errors.Is(err, spool.ErrSpoolFull) {
		t.Errorf("refused with %v", err)
	}
}
