package discovery

import (
	"errors"
	"testing"
)

func TestTroubleIsToldWhenItBeginsChangesAndEnds(t *testing.T) {
	tr := trouble{source: SourceMDNS}
	denied, busy := errors.New("denied"), errors.New("busy")
	for n, c := range []struct {
		do   func()
		want string
	}{
		{func() {}, ""},
		{func() { tr.set("eth0", "ask", nil) }, ""},
		{func() { tr.set("eth0", "ask", denied) }, "problem eth0 denied"},
		{func() { tr.set("eth0", "ask", errors.New("denied")) }, ""},
		{func() { tr.set("eth0", "serve", busy) }, "problem eth0 denied; busy"},
		{func() { tr.set("eth0", "ask", nil) }, "problem eth0 busy"},
		{func() { tr.set("eth0", "ask", denied); tr.set("eth0", "ask", nil) }, ""},
		{func() { tr.set("", "network", denied) }, "problem  denied"},
		{func() { tr.set("eth0", "serve", nil) }, "solved eth0 <nil>"},
		{func() { tr.set("eth0", "serve", nil) }, ""},
		{func() { tr.set("eth0", "serve", busy) }, "problem eth0 busy"},
		{func() { tr.clear("eth0"); tr.clear("eth1") }, "solved eth0 <nil>"},
		{func() { tr.set("", "network", nil) }, "solved  <nil>"},
	} {
		c.do()
		if got := brief(tr.news()); got != c.want {
			t.Errorf("step %d: got %q, want %q", n, got, c.want)
		}
	}
}

func TestJoinedTroublesKeepTheirCauses(t *testing.T) {
	denied, busy := errors.New("denied"), errors.New("busy")
	var tr trouble
	tr.set("eth0", "ask", denied)
	tr.set("eth0", "serve", busy)
	if err := tr.news()[0].Err; !errors.Is(err, denied) || !errors.Is(err, busy) {
		t.Errorf("the causes of %q are lost", err)
	}
}
