package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"peermesh/internal/insight"
	"peermesh/socket"
	"peermesh/spool"
)

// shown runs a printer of views on one for a pipe.
func shown(t *testing.T, v view, show func(*app, view) error) string {
	t.Helper()
	var out bytes.Buffer
	if err := show(newApp(nil, &out, &out, nil), v); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestDiscoverExplainsWhatStandsInTheWay(t *testing.T) {
	v := view{
		Candidates: []candidateView{
			{Addr: "10.0.0.1:1", Source: "mdns", Interface: "eth0", Verdict: "it is of mesh b\x1b[31m", Code: "mesh"},
			{Addr: "10.0.0.2:1", Source: "static"},
			{Node: "n", Addr: "10.0.0.3:1", Source: "peers", Verdict: "linked"},
		},
		Problems: []problemView{{Source: "mdns", Interface: "wlan0", Reason: "no route"}},
	}
	got := shown(t, v, func(a *app, v view) error { return (&discoverVerb{explain: true}).show(a, v) })
	want := `ADDRESS     SOURCE  INTERFACE  NODE  VERDICT
10.0.0.1:1  mdns    eth0       -     refused (mesh): it is of mesh b?[31m
10.0.0.2:1  static  -          -     not tried yet
10.0.0.3:1  peers   -          n     linked
problem: mdns on wlan0: no route
10.0.0.1:1: if the two nodes belong together, give both the same --mesh FILE
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestSocketsShowDropsByReasonAndConsumers(t *testing.T) {
	v := view{Sockets: []socketView{
		{Kind: "pub", Name: "weather", Ledger: &insight.Ledger{Accepted: 9, Done: 4, Dropped: map[string]uint64{"overflow": 3, "no-subscriber": 2}},
			Consumers: []consumerView{{ID: strings.Repeat("a", 26), Name: "dash", Label: "2", Leased: 1, Attached: true}, {ID: "b"}}},
		{Kind: "sub", Name: "news", Label: "2", Received: &receivedView{Delivered: 5, Done: 4, Duplicates: 1, Gaps: 7}},
	}}
	got := shown(t, v, func(a *app, v view) error {
		a.global.dir = "state"
		return a.showSockets(v)
	})
	want := `KIND  NAME      COUNTS
pub   weather   9 accepted, 4 done, 2 dropped (no-subscriber), 3 dropped (overflow)
                -> dash/2 aaaaaaaa, 1 leased, attached
                -> unknown b, 0 leased, away
sub   news (2)  5 delivered, 4 done, 1 duplicates suppressed, 7 in gaps
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestExitCodeIsTheCauses(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want int
	}{
		{nil, exitOK},
		{errors.New("any"), exitFailed},
		{usagef("no"), exitUsage},
		{errors.Join(nil, failf(exitTimeout, "late")), exitTimeout},
		{fmt.Errorf("%w: %w", socket.ErrStorage, spool.ErrFailed), exitStorage},
		{fmt.Errorf("append: %w", &spool.FullError{}), exitStorage},
		{fmt.Errorf("%w: %w", socket.ErrUnknown, spool.ErrFailed), exitStorage},
	} {
		if got := exitCode(tt.err); got != tt.want {
			t.Errorf("%v: exit %d, want %d", tt.err, got, tt.want)
		}
	}
}
