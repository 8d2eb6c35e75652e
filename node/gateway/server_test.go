package gateway

import (
	"net"
	"net/http"
	"slices"
	"testing"
)

// nowhere is a connection that only notes that it was closed.
type nowhere struct {
	net.Conn
	closed bool
}

func (n *nowhere) Close() error {
	n.closed = true
	return nil
}

func TestWhoHasBeenIdleLongestMakesRoom(t *testing.T) {
	d := &door{most: 3}
	var conns []*nowhere
	come := func() (v *visitor, admitted bool) {
		c := &nowhere{}
		conns = append(conns, c)
		v = &visitor{Conn: c, door: d}
		return v, d.admit(v)
	}
	closed := func(want ...bool) {
		t.Helper()
		var got []bool
		for _, c := range conns {
			got = append(got, c.closed)
		}
		if !slices.Equal(got, want) {
			t.Errorf("closed: %v, want %v", got, want)
		}
	}
	first, _ := come()
	second, _ := come()
	third, _ := come()
	d.note(first, http.StateActive)
	d.note(first, http.StateIdle) // so the second has been idle for longer
	if _, ok := come(); !ok {
		t.Error("the fourth is not admitted")
	}
	closed(false, true, false, false)
	if err := second.Close(); err != nil { // as its goroutine does; it makes no more room
		t.Fatal(err)
	}
	d.note(first, http.StateHijacked)
	d.note(third, http.StateActive)
	if _, ok := come(); !ok {
		t.Error("the fifth is not admitted")
	}
	closed(false, true, false, true, false)
	d.note(second, http.StateIdle) // too late to count
	if d.inside != 3 || d.idle.Len() != 1 {
		t.Errorf("%d are inside, %d of them idle; want 3 and 1", d.inside, d.idle.Len())
	}
	if err := third.Close(); err != nil {
		t.Fatal(err)
	}
	sixth, ok := come()
	if !ok || conns[4].closed {
		t.Error("who leaves makes no room")
	}
	for v := d.idle.Front(); v != nil; v = d.idle.Front() {
		d.note(v.Value.(*visitor), http.StateActive)
	}
	if _, ok := come(); ok || !sixth.inside {
		t.Error("all are busy, and one was admitted or put out")
	}
}
