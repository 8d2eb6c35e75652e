package ledger

import (
	"fmt"
	"testing"

	"peermesh/internal/wire"
)

func TestNotHereLeavesALeaseElsewhereAlone(t *testing.T) {
	r := newRig(t, Mode{})
	a, b := r.join("a", 1), r.join("b", 0)
	r.fill(1)
	r.take(a)
	r.renew(b) // a's lease ends
	r.l.Credit(b, wire.Credit{Messages: 1, Bytes: 1 << 40})
	want(t, "b", flags(r.take(b)), "1!")
	r.again(a, 1, func(at *wire.Attached) { at.Messages = 0 })
	want(t, "leased to a and b", fmt.Sprint(a.Leased(), b.Leased()), "0 1")
}
