package main

import (
	"strings"
	"testing"
	"time"

	"peermesh/internal/insight"
)

// busy is a view of a node, so long after its first frame.
func busy(seconds uint64) view {
	return view{
		Status: insight.Status{ID: strings.Repeat("a", 26), Name: "resizer-1", Addr: "10.0.0.1:4477", Peers: 2, Sockets: 3,
			Ledger: insight.Ledger{Accepted: 1000 * seconds, Queued: 7, Leased: 1, Done: 1000*seconds - 8}},
		Sockets: []socketView{
			{Kind: "pull", Name: "cats", StillMs: 34000, Received: &receivedView{Delivered: 5, Done: 4, Begun: 1, Queued: 3, Pipes: 1}},
			{Kind: "push", Name: "jobs", Ledger: &insight.Ledger{Accepted: 1000 * seconds, Queued: 7, Leased: 1, Done: 1000*seconds - 8, Dropped: map[string]uint64{"overflow": 2}},
				Consumers: []consumerView{{ID: "b", Attached: true}, {ID: "c"}}},
			{Kind: "sub", Name: "news\x1b[2J", Label: "2", Received: &receivedView{Delivered: 5 + seconds, Done: 5 + seconds, Pipes: 2}},
		},
		Peers: []insight.Peer{
			{ID: strings.Repeat("b", 25) + "a", Name: "worker", Addr: "10.0.0.2:4477", SinceMs: 61000, RTTUs: 420, Offers: []offerView{{Kind: "pull", Name: "jobs"}, {Kind: "rep", Name: "upper"}}},
			{ID: strings.Repeat("c", 25) + "a", Name: "idle", Addr: "10.0.0.3:4477", SinceMs: 900},
		},
	}
}

func TestTopShowsRatesQueuesAndPeersInOneFrame(t *testing.T) {
	before, now := busy(1), busy(3)
	got := strings.Join(topFrame(now, ratesOf(before, now, 2*time.Second), 100, 0), "\n")
	want := `resizer-1  aaaaaaaa  10.0.0.1:4477  peers 2  sockets 3
ledger 3000 accepted, 7 queued, 1 leased, 2992 done

KIND  NAME        IN/s  OUT/s  QUEUED  IN-HAND  FAILED  PIPES  STILL
push  jobs        1000  1000   7       1        2       1      -
sub   news?[2J/2  1.0   1.0    0       0        0       2      -
pull  cats        0.0   0.0    3       1        0       1      34s

PEER    ID        ADDRESS        UP     RTT    OFFERS
worker  bbbbbbbb  10.0.0.2:4477  1m1s   420µs  pull jobs, rep upper
idle    cccccccc  10.0.0.3:4477  900ms  0s     -`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestAFrameFitsTheScreen(t *testing.T) {
	v := busy(3)
	lines := topFrame(v, ratesOf(v, v, time.Second), 40, 6)
	if len(lines) != 6 {
		t.Errorf("%d lines on a screen of 6", len(lines))
	}
	for _, l := range lines {
		if n := len([]rune(l)); n > 40 {
			t.Errorf("%d columns on a screen of 40: %q", n, l)
		}
	}
}

func TestASocketThatWasOpenedAgainHasARateOfItsOwnLife(t *testing.T) {
	before, now := busy(3), busy(1)
	for _, r := range ratesOf(before, now, time.Second) {
		if r.Kind == "push" && (r.InPerS != 1000 || r.OutPerS != 992) {
			t.Errorf("rates %v and %v, want those of the 1000 since", r.InPerS, r.OutPerS)
		}
	}
}
