package insight

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// crowded is a sight with much in every list.
func crowded(n int) Sight {
	s := Sight{Status: Status{ID: "me", Name: "me"}}
	for i := range n {
		name := fmt.Sprint("name-", i)
		s.Peers = append(s.Peers, Peer{ID: name, Offers: []Offer{{"pull", name}, {"sub", name}}})
		s.Sockets = append(s.Sockets, Socket{Name: name, Ledger: &Ledger{Done: 1}, Consumers: []Consumer{{ID: name}}})
		s.Candidates = append(s.Candidates, Candidate{Addr: name})
		s.Problems = append(s.Problems, Problem{Reason: name})
		s.Events = append(s.Events, Event{Addr: name})
		s.Decisions = append(s.Decisions, Decision{Name: name, First: 1, Count: 1})
	}
	return s
}

func TestASightIsCutToItsLimitAndSaysSo(t *testing.T) {
	s := crowded(500)
	for _, limit := range []int{1 << 20, 64 << 10, 4 << 10, 1 << 10} {
		b, err := s.Marshal(limit)
		if err != nil || len(b) > limit {
			t.Fatalf("%d bytes, limit %d, error %v", len(b), limit, err)
		}
		got, err := ParseSight(b)
		if err != nil {
			t.Fatal(err)
		}
		if full := len(got.Peers) == 500 && len(got.Decisions) == 500; got.Cut == full {
			t.Errorf("limit %d: cut %v with %d peers and %d decisions", limit, got.Cut, len(got.Peers), len(got.Decisions))
		}
		if n := len(got.Events); n > 0 && got.Events[n-1].Addr != "name-499" {
			t.Errorf("limit %d: the newest event went", limit)
		}
	}
	if _, err := s.Marshal(10); err == nil {
		t.Error("10 bytes are enough")
	}
	if !reflect.DeepEqual(s, crowded(500)) {
		t.Error("cutting changed the sight itself")
	}
}

func TestOfOtherSocketsOnlyTheirNamesAreTold(t *testing.T) {
	s := crowded(3).About("name-1")
	for _, o := range s.Sockets {
		if full := o.Consumers != nil && o.Ledger.Done == 1; full != (o.Name == "name-1") || o.Ledger == nil {
			t.Errorf("%+v", o)
		}
	}
	if len(s.Sockets) != 3 || len(s.Decisions) != 1 || len(s.Peers) != 3 {
		t.Errorf("%d sockets, %d decisions, %d peers", len(s.Sockets), len(s.Decisions), len(s.Peers))
	}
}

// What another node tells may be anything: it is refused or reasoned from, and neither panics.
func FuzzWhateverIsToldIsReasonedFrom(f *testing.F) {
	b, err := json.Marshal(crowded(2))
	if err != nil {
		f.Fatal(err)
	}
	f.Add("name-1/1", b)
	f.Add("name-1", []byte(`{"sockets":[{"kind":"x","name":"name-1","ledger":{},"consumers":[{"attached":true,"leased":1}]}],"message":{"state":"queued","waits":"delay"}}`))
	f.Add("me", []byte(`{"events":[{"state":"refused","code":"mesh"}],"peers":[{"id":"me"}]}`))
	f.Add("a/", []byte(`{"sockets":null}`))
	f.Fuzz(func(t *testing.T, question string, told []byte) {
		s, err := ParseSight(told)
		if err != nil {
			return
		}
		for _, a := range []Answer{Why(question, s, nil), Why(question, crowded(2), []Sight{s}), Why(question, s, []Sight{crowded(1)})} {
			if a.Code == "" || a.Cause == "" || len(a.Evidence) == 0 || a.Code != CodeOK && a.Cure == "" {
				t.Errorf("%q of %s: %+v", question, told, a)
			}
		}
		CheckPeers(s)
		Draw([]Sight{s, crowded(1)})
	})
}

func TestQuestionsAreTakenApartAtTheLastSlash(t *testing.T) {
	for in, want := range map[string]struct {
		name string
		seq  uint64
		ok   bool
	}{
		"jobs/17": {"jobs", 17, true}, "a/b/3": {"a/b", 3, true}, "jobs": {}, "/3": {}, "jobs/0": {"jobs", 0, false},
		"jobs/": {"jobs", 0, false}, "jobs/-1": {"jobs", 0, false}, "jobs/99999999999999999999": {"jobs", 1<<64 - 1, false},
	} {
		if name, seq, ok := Split(in); name != want.name || seq != want.seq || ok != want.ok {
			t.Errorf("%q: %q, %d, %v, want %+v", in, name, seq, ok, want)
		}
	}
}

func TestADrawingHasEachLinkAndFlowOnce(t *testing.T) {
	a := Sight{Status: Status{ID: "a", Name: "one"}, Peers: []Peer{{ID: "b", Name: "two", RTTUs: 5}, {ID: "c", Name: "two"}},
		Sockets: []Socket{{Kind: "push", Name: "jobs", Ledger: &Ledger{}, Consumers: []Consumer{{ID: "b", Attached: true}, {ID: "c"}, {ID: "a", Attached: true}}}}}
	b := Sight{Status: Status{ID: "b", Name: "two"}, Peers: []Peer{{ID: "a", Name: "one"}},
		Sockets: []Socket{{Kind: "req", Name: "ask", Ledger: &Ledger{}, Consumers: []Consumer{{ID: "a", Attached: true}}}}}
	g := Draw([]Sight{a, b})
	if len(g.Nodes) != 3 || fmt.Sprint(g.Links) != "[{a b 5} {a c 0}]" || len(g.Flows) != 2 {
		t.Errorf("%+v", g)
	}
	if got := strings.Join(g.Between(g.Links[0]), ", "); got != "push jobs ->, req ask <-" {
		t.Errorf("between: %q", got)
	}
	if g.Label("a") != "one" || g.Label("b") != "two b" || g.Label("nobody") != "nobody" {
		t.Errorf("labels %q %q", g.Label("a"), g.Label("b"))
	}
}
