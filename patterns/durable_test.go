package patterns

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/socket"
	"peermesh/spool"
)

// kept is a node with a state directory.
type kept struct {
	*node
	dir   string
	store *spool.Store
}

// newKept opens a node whose state is in dir.
func newKept(t testing.TB, id byte, dir string) *kept {
	t.Helper()
	s, err := spool.Open(dir, spool.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("store: %v", err)
		}
	})
	n := newNode(t, id)
	n.local.Store, n.local.Edition, n.local.Incarnation = s.ID(), s.Edition(), s.Incarnation()
	n.local.Nonce[2] = byte(s.Incarnation())
	return &kept{n, dir, s}
}

func (k *kept) env() Env {
	e := k.node.env()
	e.Store, e.Seqs = k.store, k.store
	return e
}

func (k *kept) push(opts ...Option) *Push {
	k.Helper()
	s, err := NewPush(k.env(), "x", opts...)
	return made(k.TB, s, err)
}

func (k *kept) pull(opts ...Option) *Pull {
	k.Helper()
	s, err := NewPull(k.env(), "x", opts...)
	return made(k.TB, s, err)
}

// killed is the node after its process was killed at this moment: another process finds
// what was on disk.
func (k *kept) killed() *kept {
	k.Helper()
	synctest.Wait() // or the files are not those of one moment
	return k.copied()
}

// copied is killed for a store that is known to be doing nothing.
func (k *kept) copied() *kept {
	k.Helper()
	dir := filepath.Join(k.TempDir(), "after")
	if err := copyTree(k.dir, dir); err != nil {
		k.Fatal(err)
	}
	return newKept(k.TB, k.local.Node[0], dir)
}

// copyTree copies a directory of files.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if d.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		in, err := os.Open(path)
		if err != nil {
			return err
		}
		defer in.Close()
		out, err := os.OpenFile(target, os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, in)
		return errors.Join(err, out.Close())
	})
}

// takes receives n messages and acks them; it returns their bodies, with "!" behind those
// that are flagged.
func takeAll(t testing.TB, r *Pull, n int) (bodies []string) {
	t.Helper()
	for range n {
		m, err := r.Recv(long(t))
		if err != nil {
			t.Fatal(err)
		}
		body := string(m.Body)
		if m.Redelivered() {
			body += "!"
		}
		bodies = append(bodies, body)
		if err := m.Ack(); err != nil {
			t.Fatal(err)
		}
	}
	return bodies
}

func counted(from, to int) (out []string) {
	for i := from; i <= to; i++ {
		out = append(out, fmt.Sprint(i))
	}
	return out
}

func TestADurableMessageWaitsOnDiskForAPullerAndAnotherLife(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		s := a.push()
		send(t, s, counted(1, 100)...)
		a2 := a.killed()
		s2 := a2.push()
		same(t, "carried", s2.Stats().Ledger.Carried, 100)
		balanced(t, s2)
		send(t, s2, "101")
		r := b.pull()
		connect(a2.node, s2, b.node, r)
		same(t, "received", takeAll(t, r, 101), counted(1, 101))
		if err := s2.Flush(long(t)); err != nil {
			t.Fatal(err)
		}
		l := balanced(t, s2)
		same(t, "done", l.Done, 101)
		none(t, r)
	})
}

func TestAKilledSenderSendsAgainOnlyWhatIsNotSettled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		s, r := a.push(), b.pull(Prefetch(10))
		l := connect(a.node, s, b.node, r)
		ready(t, s, 1)
		send(t, s, counted(1, 30)...)
		same(t, "received", takeAll(t, r, 20), counted(1, 20))
		for s.Stats().Ledger.Done < 20 {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		a2 := a.killed()
		l.part()
		s2 := a2.push()
		same(t, "carried", s2.Stats().Ledger.Carried, 10)
		connect(a2.node, s2, b.node, r)
		got := takeAll(t, r, 10)
		if err := s2.Flush(long(t)); err != nil {
			t.Fatal(err)
		}
		same(t, "in order, of what is in hand once", len(got), 10)
		for i, body := range got {
			if want := fmt.Sprint(21 + i); body != want && body != want+"!" {
				t.Errorf("message %d is %q", 21+i, body)
			}
		}
		none(t, r)
		balanced(t, s2)
	})
}

// The link is cut before any answer, so that only the puller's disk knows what is done.
func TestAKilledPullerGetsNothingTwiceThatItHasDone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		done := make(chan struct{}, 30)
		s, r := a.push(), b.pull(OnDone(func(*socket.Message) { done <- struct{}{} }))
		l := connect(a.node, s, b.node, r)
		ready(t, s, 1)
		send(t, s, counted(1, 30)...)
		var ms []*socket.Message
		for i := range 20 {
			ms = append(ms, recv(t, r, fmt.Sprint(i+1)))
		}
		synctest.Wait() // the rest is on its way too
		l.part()
		for _, m := range ms {
			if err := m.Ack(); err != nil {
				t.Fatal(err)
			}
			<-done // it is on disk
		}
		same(t, "the sender knows", s.Stats().Ledger.Done, 0)
		b2 := b.killed()
		r2 := b2.pull()
		connect(a.node, s, b2.node, r2)
		got := takeAll(t, r2, 10)
		if err := s.Flush(long(t)); err != nil {
			t.Fatal(err)
		}
		want := counted(21, 30)
		for i := range want {
			want[i] += "!" // they were sent to a process that is gone
		}
		same(t, "received by the next life", got, want)
		none(t, r2)
		same(t, "done", balanced(t, s).Done, 30)
	})
}

func TestABacklogThatDoesNotFitMemoryComesInOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const count = 5000
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		s := a.push(Queue(100, 1<<20))
		var last *Receipt
		for i := 1; i <= count; i++ {
			var err error
			if last, err = s.Post(long(t), &socket.Message{Body: fmt.Append(nil, i)}); err != nil {
				t.Fatal(err)
			}
		}
		if err := last.Stored(long(t)); err != nil {
			t.Fatal(err)
		}
		s.mu.Lock()
		if n, _ := s.box.Ledger().Owed(); n > 100 {
			t.Errorf("%d messages in memory", n)
		}
		s.mu.Unlock()
		r := b.pull()
		connect(a.node, s, b.node, r)
		same(t, "received", takeAll(t, r, count), counted(1, count))
		if err := s.Flush(long(t)); err != nil {
			t.Fatal(err)
		}
		same(t, "done", balanced(t, s).Done, uint64(count))
		if f, err := last.Wait(long(t)); err != nil || f.State != "done" {
			t.Errorf("the last one: %+v, %v", f, err)
		}
	})
}

func TestADeadLetterIsKeptInTheTransactionThatSettlesIt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		s, r := a.push(MaxDeliver(2)), b.pull()
		connect(a.node, s, b.node, r)
		send(t, s, "bad", "good")
		for range 2 {
			m := recv(t, r, "bad")
			m.Nack(errors.New("boom"))
			if s.Stats().Ledger.Done == 0 {
				ack := recv(t, r, "good")
				ack.Ack()
			}
		}
		if err := s.Flush(long(t)); err != nil {
			t.Fatal(err)
		}
		l := balanced(t, s)
		same(t, "dead and done", fmt.Sprint(l.Dead, l.Done), "1 1")
		a2 := a.killed()
		s2 := a2.push()
		same(t, "carried", s2.Stats().Ledger.Carried, uint64(0))
		blk, err := s2.journal.dead.Read(1)
		if err != nil {
			t.Fatal(err)
		}
		m, err := unframe(blk.Data)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "letter", string(m.Body), "bad")
		same(t, "cause", m.Headers[HeaderDeadCause], "boom")
		same(t, "id", m.Headers[HeaderDeadID], s.stream+"/1")
	})
}

func TestDurableWithoutADirectoryIsRefused(t *testing.T) {
	n := newNode(t, 'a')
	_, err := NewPush(n.env(), "x", Durability(socket.Durable))
	matches(t, "NewPush", err, socket.ErrNoDir)
}

func TestADurableSendThatIsCutShortSaysThatItsOutcomeIsUnknown(t *testing.T) {
	a := newKept(t, 'a', t.TempDir())
	s := a.push()
	cutShort(t, "Send", func(ctx context.Context) error { return s.Send(ctx, []byte("x")) })
}

// cutShort demands that a call whose context has ended says so, and that its outcome is unknown. The disk may be
// faster, but not each time.
func cutShort(t *testing.T, what string, call func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 {
		if err := call(ctx); err != nil {
			matches(t, what, err, context.Canceled)
			matches(t, what, err, socket.ErrUnknown)
			return
		}
	}
	t.Errorf("%s waits for the disk, although its context has ended", what)
}

// What the first of them framed is of the same edition as what the second one frames.
func TestASocketThatIsClosedAndOpenedAgainGoesOnWithItsBacklog(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		s := a.push()
		send(t, s, counted(1, 10)...)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = a.push()
		send(t, s, counted(11, 20)...)
		r := b.pull()
		connect(a.node, s, b.node, r)
		same(t, "received", takeAll(t, r, 20), counted(1, 20))
		if err := s.Flush(long(t)); err != nil {
			t.Fatal(err)
		}
		same(t, "done", balanced(t, s).Done, 20)
	})
}

// The first life reserved dispatch marks ahead, as far as the puller's credit reached.
func TestWhatWasNeverThereIsNotFlagged(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		s, r := a.push(), b.pull()
		l := connect(a.node, s, b.node, r)
		ready(t, s, 1)
		send(t, s, "1")
		same(t, "received", takeAll(t, r, 1), counted(1, 1))
		if err := s.Flush(long(t)); err != nil {
			t.Fatal(err)
		}
		l.part()
		a2 := a.killed()
		send(t, a2.push(), counted(2, 10)...)
		a3 := a2.killed()
		s3 := a3.push()
		connect(a3.node, s3, b.node, r)
		same(t, "received", takeAll(t, r, 9), counted(2, 10))
	})
}

// The sender dies between the message's release and its next delivery; nothing of MaxDeliver is used up in either life.
func TestAReleasedMessageOutlivesItsSenderFlagged(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		s, r := a.push(MaxDeliver(2)), b.pull()
		l := connect(a.node, s, b.node, r)
		ready(t, s, 1)
		send(t, s, "a")
		for range 3 {
			m := recv(t, r, "a")
			r.Pause()
			if err := m.Release(); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			a2 := a.killed()
			l.part()
			time.Sleep(redial + 10*time.Millisecond)
			a, s = a2, a2.push(MaxDeliver(2))
			l = connect(a.node, s, b.node, r)
			r.Resume()
		}
		m := recv(t, r, "a")
		equal(t, "redelivered", m.Redelivered(), true)
		m.Ack()
		if err := s.Flush(long(t)); err != nil {
			t.Fatal(err)
		}
		equal(t, "dead", balanced(t, s).Dead, 0)
	})
}
