package patterns

import (
	"testing"
)

// The link is cut before the transaction, so that only the puller's disk knows what is done.
func TestAnAckOfATransactionIsKnownInTheNextLife(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		s, r := a.push(), b.pull()
		l := connect(a.node, s, b.node, r)
		send(t, s, "1", "2")
		m := recv(t, r, "1")
		l.part()
		if err := NewTxs(b.env()).Run(long(t), func(tx *Tx) error { return tx.Ack(m) }); err != nil {
			t.Fatal(err)
		}
		b2 := b.killed()
		r2 := b2.pull()
		connect(a.node, s, b2.node, r2)
		same(t, "received by the next life", takeAll(t, r2, 1), []string{"2!"})
		if err := s.Flush(long(t)); err != nil {
			t.Fatal(err)
		}
		none(t, r2)
		equal(t, "done", balanced(t, s).Done, 2)
	})
}
