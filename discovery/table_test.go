package discovery

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// candidate returns a candidate of the nth test node at 10.0.0.n.
func candidate(n byte) Candidate {
	return Candidate{Node: testNode(n), Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, n}), 4477), Source: SourceMDNS, Interface: "eth0"}
}

// brief writes events as "found 10.0.0.1:4477, lost ...".
func brief(events []Event) string {
	var list []string
	for _, e := range events {
		switch e.Kind {
		case Found, Lost:
			list = append(list, fmt.Sprintf("%s %s", e.Kind, e.Candidate.Addr))
		default:
			list = append(list, strings.TrimSpace(fmt.Sprintf("%s %s %v", e.Kind, e.Interface, e.Err)))
		}
	}
	return strings.Join(list, ", ")
}

func TestCandidatesComeAndGo(t *testing.T) {
	var (
		a, b    = candidate(1), candidate(2)
		changed = a
		other   = a
	)
	changed.Incarnation = 2
	other.Interface = "wlan0"
	type step struct {
		at     time.Duration
		heard  []Candidate
		deaf   string // interface
		linked string // node
		want   string
	}
	s := time.Second
	for name, steps := range map[string][]step{
		"found once, in order": {
			{at: 0, heard: []Candidate{b, a, a}, want: "found 10.0.0.1:4477, found 10.0.0.2:4477"},
			{at: 1 * s, heard: []Candidate{a, b}},
		},
		"found again when it changed": {
			{at: 0, heard: []Candidate{a}, want: "found 10.0.0.1:4477"},
			{at: 1 * s, heard: []Candidate{changed}, want: "found 10.0.0.1:4477"},
		},
		"another interface is another candidate": {
			{at: 0, heard: []Candidate{a}, want: "found 10.0.0.1:4477"},
			{at: 1 * s, heard: []Candidate{a, other}, want: "found 10.0.0.1:4477"},
		},
		"lost after 4 questions and 120 seconds": {
			{at: 0, heard: []Candidate{a, b}, want: "found 10.0.0.1:4477, found 10.0.0.2:4477"},
			{at: 30 * s}, {at: 60 * s}, {at: 90 * s}, {at: 119 * s},
			{at: 120 * s, want: "lost 10.0.0.1:4477, lost 10.0.0.2:4477"},
			{at: 150 * s},
		},
		"not lost after 120 seconds and 3 questions": {
			{at: 0, heard: []Candidate{a}, want: "found 10.0.0.1:4477"},
			{at: 60 * s}, {at: 120 * s}, {at: 180 * s},
			{at: 240 * s, want: "lost 10.0.0.1:4477"},
		},
		"a sighting starts it all over": {
			{at: 0, heard: []Candidate{a}, want: "found 10.0.0.1:4477"},
			{at: 40 * s}, {at: 80 * s}, {at: 100 * s}, {at: 119 * s, heard: []Candidate{a}},
			{at: 130 * s}, {at: 170 * s}, {at: 210 * s}, {at: 238 * s},
			{at: 239 * s, want: "lost 10.0.0.1:4477"},
		},
		"questions before a sighting do not count": {
			{at: 0, heard: []Candidate{a}, want: "found 10.0.0.1:4477"},
			{at: 1 * s}, {at: 2 * s}, {at: 3 * s}, {at: 4 * s}, {at: 5 * s, heard: []Candidate{a}},
			{at: 200 * s},
		},
		"found anew after it was lost": {
			{at: 0, heard: []Candidate{a}, want: "found 10.0.0.1:4477"},
			{at: 40 * s}, {at: 80 * s}, {at: 100 * s}, {at: 120 * s, want: "lost 10.0.0.1:4477"},
			{at: 150 * s, heard: []Candidate{a}, want: "found 10.0.0.1:4477"},
		},
		"a linked one stays, and for 120 seconds after": {
			{at: 0, heard: []Candidate{a}, want: "found 10.0.0.1:4477"},
			{at: 100 * s, linked: a.Node}, {at: 200 * s, linked: a.Node}, {at: 300 * s, linked: a.Node}, {at: 400 * s, linked: a.Node},
			{at: 500 * s}, {at: 519 * s},
			{at: 520 * s, want: "lost 10.0.0.1:4477"},
		},
		"silence means nothing where nothing could be asked": {
			{at: 0, heard: []Candidate{a}, want: "found 10.0.0.1:4477"},
			{at: 100 * s, deaf: "eth0"}, {at: 200 * s, deaf: "eth0"}, {at: 300 * s, deaf: "eth0"}, {at: 400 * s, deaf: "eth0"}, {at: 500 * s, deaf: "eth0"},
			{at: 501 * s}, {at: 502 * s}, {at: 503 * s},
			{at: 504 * s, want: "lost 10.0.0.1:4477"},
		},
	} {
		var table table
		for _, st := range steps {
			got := brief(table.close(epoch.Add(st.at), st.heard, map[string]bool{st.deaf: true}, func(node string) bool { return node == st.linked }))
			if got != st.want {
				t.Errorf("%s: at %v got %q, want %q", name, st.at, got, st.want)
			}
		}
	}
}

func TestAFullTableRefusesAndCounts(t *testing.T) {
	var table table
	var many []Candidate
	for n := range maxCandidates + 10 {
		c := candidate(1)
		c.Addr = netip.AddrPortFrom(c.Addr.Addr(), uint16(n+1))
		many = append(many, c)
	}
	nobody := func(string) bool { return false }
	if got := len(table.close(epoch, many, nil, nobody)); got != maxCandidates {
		t.Errorf("%d found, want %d", got, maxCandidates)
	}
	if table.refused != 10 {
		t.Errorf("%d refused, want 10", table.refused)
	}
	for n := range 4 {
		table.close(epoch.Add(time.Duration(n+1)*time.Minute), nil, nil, nobody)
	}
	if got := len(table.close(epoch.Add(time.Hour), many[maxCandidates:], nil, nobody)); got != 10 {
		t.Errorf("%d found once there was room, want 10", got)
	}
}

func TestSightingsOfARoundAreBounded(t *testing.T) {
	var r round
	for range maxHeard {
		r.hear([]Candidate{candidate(1), candidate(2), candidate(3)})
	}
	if len(r.heard) != maxHeard {
		t.Errorf("%d kept, want %d", len(r.heard), maxHeard)
	}
}
