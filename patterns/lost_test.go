package patterns

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// torn is the node's next life after its disk has forgotten what do had written.
func (k *kept) torn(do func()) *kept {
	k.Helper()
	synctest.Wait()
	const log = "spool.wal.0"
	before, err := os.ReadFile(filepath.Join(k.dir, log))
	if err != nil {
		k.Fatal(err)
	}
	do()
	time.Sleep(time.Second) // the store falls idle, and knows that all of it is there
	synctest.Wait()
	dir := filepath.Join(k.TempDir(), "torn")
	if err := copyTree(k.dir, dir); err != nil {
		k.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, log), before, 0o600); err != nil {
		k.Fatal(err)
	}
	return newKept(k.TB, k.local.Node[0], dir)
}

// forgetLost says that what a queue has lost was told.
func (k *kept) forgetLost(p *tail) {
	k.Helper()
	c := k.store.Begin()
	c.ForgetLost(p.queue)
	g := c.Group()
	c.End()
	if err := k.store.Wait(long(k.TB), g); err != nil {
		k.Fatal(err)
	}
}

func TestWhatTheDiskLostBeforeIsToldToTheSenderAndToEveryPuller(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		s := a.push()
		send(t, s, "1", "2")
		a2 := a.torn(func() { send(t, s, "3", "4", "5") })
		for life := range 3 {
			var lost, told gaps
			s, r := a2.push(OnLoss(lost.note)), b.pull(OnGap(told.note))
			link := connect(a2.node, s, b.node, r)
			send(t, s, "on")
			want := []string{"1!", "2!", "on"} // what is left is doubted
			if life > 0 {
				want = want[2:]
			}
			same(t, "received", takeAll(t, r, len(want)), want)
			if err := s.Flush(long(t)); err != nil {
				t.Fatal(err)
			}
			balanced(t, s)
			if life < 2 { // each life tells it, until it is said that it was told
				same(t, "lost", lost.told(), []string{"3-5 damaged"})
				same(t, "gaps", told.told(), []string{"3-5 corrupt"})
			} else {
				same(t, "lost", lost.told(), []string(nil))
				same(t, "gaps", told.told(), []string(nil))
			}
			if life == 1 {
				a2.forgetLost(s.journal.tail)
			}
			link.part()
			a2 = a2.killed()
		}
	})
}

func TestWhatTheDiskLostBeforeIsToldToEveryDurableSubscription(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b, c := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir()), newKept(t, 'c', t.TempDir())
		p := a.pub()
		if err := p.Expect("s", "a"); err != nil {
			t.Fatal(err)
		}
		publish(t, p, "a", "1")
		a2 := a.torn(func() { publish(t, p, "a", "2", "3") })
		var lost, told, news gaps
		p2 := a2.pub(OnLoss(lost.note))
		s, later := b.durable("s", Topics("a"), OnGap(told.note)), c.durable("later", Topics("a"), OnGap(news.note))
		connect(a2.node, p2, b.node, s)
		connect(a2.node, p2, c.node, later)
		ready(t, p2, 2)
		publish(t, p2, "a", "on")
		same(t, "received", read(t, s, 2), []string{"1", "on"})
		same(t, "received by one that came later", read(t, later, 1), []string{"on"})
		flush(t, p2)
		balanced(t, p2)
		same(t, "lost", lost.told(), []string{"2-3 damaged"})
		same(t, "gaps", told.told(), []string{"2-3 corrupt"})
		same(t, "gaps of one that came later", news.told(), []string(nil))
	})
}
