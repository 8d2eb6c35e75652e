package node_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"peermesh/internal/ranges"
	"peermesh/node"
	"peermesh/patterns"
	"peermesh/socket"
)

// spillingChild names, in a child process, the directory in which it sends until it is killed.
const spillingChild = "PEERMESH_TEST_SPILL"

// spillUntilKilled sends at level memory to nobody, and says each seq once Send has returned.
func spillUntilKilled(dir string) error {
	n, err := node.Open(context.Background(), node.Config{Name: "a", Mesh: filepath.Join(dir, "mesh"), Dir: filepath.Join(dir, "state"), Listen: "127.0.0.1:0", NoMDNS: true})
	if err != nil {
		return err
	}
	p, err := n.Push("jobs", patterns.Durability(socket.Memory), patterns.Queue(100, 1<<20))
	if err != nil {
		return err
	}
	for body := bytes.Repeat([]byte("x"), 500); ; {
		seq, err := p.SendMessage(context.Background(), &socket.Message{Body: body})
		if err != nil {
			return err
		}
		if _, err := fmt.Println(seq); err != nil {
			return err // the parent is gone
		}
		time.Sleep(100 * time.Microsecond) // or all of it is sent before the disk has begun
	}
}

// pullingChild names, in a child process, the directory with the mesh and who pushes.
const pullingChild = "PEERMESH_TEST_PULL"

// pullUntilKilled says the body of each message it gets, and acks none.
func pullUntilKilled(dir string) error {
	peer, err := os.ReadFile(filepath.Join(dir, "peer"))
	if err != nil {
		return err
	}
	n, err := node.Open(context.Background(), node.Config{Name: "b", Mesh: filepath.Join(dir, "mesh"), Listen: "127.0.0.1:0", NoMDNS: true, Peers: []string{string(peer)}})
	if err != nil {
		return err
	}
	p, err := n.Pull("jobs")
	if err != nil {
		return err
	}
	for {
		m, err := p.Recv(context.Background())
		if err != nil {
			return err
		}
		if _, err := fmt.Printf("%s\n", m.Body); err != nil {
			return err // the parent is gone
		}
	}
}

func TestMain(m *testing.M) {
	if dir := os.Getenv(spillingChild); dir != "" {
		fmt.Fprintln(os.Stderr, spillUntilKilled(dir))
		os.Exit(2)
	}
	if dir := os.Getenv(pullingChild); dir != "" {
		fmt.Fprintln(os.Stderr, pullUntilKilled(dir))
		os.Exit(2)
	}
	verify(m)
}

// killedAfter runs a child until it has said about n seqs, and returns all that it said.
func killedAfter(t *testing.T, dir string, n int) (said []uint64) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), spillingChild+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var seq uint64
		if _, err := fmt.Sscan(lines.Text(), &seq); err != nil {
			t.Fatal(err)
		}
		said = append(said, seq)
		if len(said) == n {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	var ended *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &ended) || ended.Exited() {
		t.Fatalf("the child ended with %v", err)
	}
	return said
}

// Every message that a killed sender accepted comes once and in order, or is told as lost.
func TestWhatAKilledSenderSpilledIsDeliveredAndTheRestTold(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mesh"), newMesh(t), 0o600); err != nil {
		t.Fatal(err)
	}
	lives := map[uint64]int{}
	total := 0
	for life := range 4 {
		for _, seq := range killedAfter(t, dir, 200+rand.IntN(3000)) {
			if _, again := lives[seq]; again {
				t.Fatalf("life %d uses seq %d again", life, seq)
			}
			lives[seq] = life
			total++
		}
	}
	a, err := node.Open(t.Context(), node.Config{Name: "a", Mesh: filepath.Join(dir, "mesh"), Dir: filepath.Join(dir, "state"), Listen: "127.0.0.1:0", NoMDNS: true})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	push, err := a.Push("jobs", patterns.Durability(socket.Memory), patterns.Queue(100, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var gone ranges.Set
	told := make(chan struct{}, 1)
	pull, err := a.Pull("jobs", patterns.OnGap(func(g socket.Gap) {
		mu.Lock()
		defer mu.Unlock()
		if g.Reason != "incarnation" {
			t.Errorf("gap %+v", g)
		}
		gone.Add(g.From, g.To)
		select {
		case told <- struct{}{}:
		default:
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	carried := push.Stats().Ledger.Carried
	ctx := within(t, 60*time.Second)
	last, got := uint64(0), map[uint64]bool{}
	for range carried {
		m, err := pull.Recv(ctx)
		if err != nil {
			t.Fatalf("after %d of %d: %v", len(got), carried, err)
		}
		if m.Seq() <= last || m.Redelivered() {
			t.Errorf("seq %d after %d, flagged: %v", m.Seq(), last, m.Redelivered())
		}
		last = m.Seq()
		got[last] = true
		if err := m.Ack(); err != nil {
			t.Fatal(err)
		}
	}
	if err := push.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	newest := slices.Max(slices.Collect(maps.Keys(lives)))
	known := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return got[newest] || gone.Contains(newest)
	}
	for !known() { // nothing comes behind the last gap
		select {
		case <-told:
		case <-ctx.Done():
			t.Fatalf("seq %d neither came nor was told as lost", newest)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	lost := 0
	for seq := range lives {
		switch {
		case got[seq] && gone.Contains(seq):
			t.Errorf("seq %d came, and was told as lost", seq)
		case !got[seq] && !gone.Contains(seq):
			t.Errorf("seq %d neither came nor was told as lost", seq)
		case !got[seq]:
			lost++
		}
	}
	t.Logf("%d accepted in 4 lives, %d found on disk, %d told as lost", total, carried, lost)
	if len(got) == 0 {
		t.Error("nothing was on disk")
	}
	if l := push.Stats().Ledger; !l.Balanced() || l.Done != carried {
		t.Errorf("ledger %+v", l)
	}
}
