package main

import (
	"errors"
	"testing"
	"time"

	"peermesh/internal/identity"
	"peermesh/node"
)

func TestSenderGivesUpOnlyWhenEveryAddressRefusedLongEnough(t *testing.T) {
	start := time.Now()
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	refusal := func(addr string, code identity.Code, s int) node.PeerEvent {
		return node.PeerEvent{State: node.Refused, Addr: addr, Code: code, Time: at(s)}
	}
	static := func(addr string) node.Candidate { return node.Candidate{Addr: addr, Source: "static"} }
	stranger := node.Candidate{Addr: "c", Source: "mdns", Code: identity.CodeMesh}
	tests := []struct {
		name   string
		events []node.PeerEvent
		known  []node.Candidate
		now    int
		gives  bool
	}{
		{"no address", nil, nil, 60, false},
		{"no answer", nil, []node.Candidate{static("a")}, 60, false},
		{"refused just now", []node.PeerEvent{refusal("a", identity.CodeMesh, 0)}, []node.Candidate{static("a")}, 4, false},
		{"refused for long", []node.PeerEvent{refusal("a", identity.CodeMesh, 0)}, []node.Candidate{static("a")}, 5, true},
		{"refused again and again", []node.PeerEvent{refusal("a", identity.CodePolicy, 0), refusal("a", identity.CodeMesh, 4)},
			[]node.Candidate{static("a")}, 5, true},
		{"denied, and again when it is tried again", []node.PeerEvent{refusal("a", identity.CodePolicy, 0), refusal("a", identity.CodePolicy, 5)},
			[]node.Candidate{static("a")}, 5, true},
		{"denied, and not again: the policy has changed", []node.PeerEvent{refusal("a", identity.CodePolicy, 0), refusal("a", identity.CodePolicy, 4)},
			[]node.Candidate{static("a")}, 9, false},
		{"denied for a while long ago", []node.PeerEvent{refusal("a", identity.CodePolicy, 0), refusal("a", identity.CodePolicy, 5)},
			[]node.Candidate{static("a")}, 16, false},
		{"one of two does not answer", []node.PeerEvent{refusal("a", identity.CodeMesh, 0)},
			[]node.Candidate{static("a"), static("b")}, 60, false},
		{"two", []node.PeerEvent{refusal("a", identity.CodeMesh, 0), refusal("b", identity.CodeExpired, 1)},
			[]node.Candidate{static("a"), static("b")}, 6, true},
		{"up meanwhile", []node.PeerEvent{refusal("a", identity.CodeMesh, 0), {State: node.Up, Addr: "a"}},
			[]node.Candidate{static("a")}, 60, false},
		{"up and refused anew", []node.PeerEvent{refusal("a", identity.CodeMesh, 0), {State: node.Up, Addr: "a"}, refusal("a", identity.CodePolicy, 57)},
			[]node.Candidate{static("a")}, 60, false},
		{"what heals by itself", []node.PeerEvent{refusal("a", identity.CodeIncarnation, 0)}, []node.Candidate{static("a")}, 60, false},
		{"a stranger on the network", nil, []node.Candidate{stranger}, 60, false},
		{"a stranger does not save the rest", []node.PeerEvent{refusal("a", identity.CodeMesh, 0)}, []node.Candidate{static("a"), stranger}, 5, true},
	}
	for _, tt := range tests {
		var r refusals
		for _, e := range tt.events {
			r.note(e)
		}
		err := r.verdict(tt.known, at(tt.now))
		var refused *refusedError
		if (err != nil) != tt.gives || err != nil && !errors.As(err, &refused) {
			t.Errorf("%s: got %v, want giving up: %v", tt.name, err, tt.gives)
		}
	}
}
