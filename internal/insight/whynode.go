package insight

import (
	"fmt"
	"net"
	"slices"
	"strings"
)

// isNode reports whether anybody knows a node of that name, id or address.
func (w *why) isNode(who string) bool {
	for _, s := range w.all {
		if calls(who, s.Status.ID, s.Status.Name, s.Status.Addr) ||
			slices.ContainsFunc(s.Peers, func(p Peer) bool { return calls(who, p.ID, p.Name, p.Addr) }) ||
			slices.ContainsFunc(s.Candidates, func(c Candidate) bool { return calls(who, c.Node, "", c.Addr) }) ||
			slices.ContainsFunc(s.Events, func(e Event) bool { return calls(who, e.ID, e.Name, e.Addr) }) {
			return true
		}
	}
	return false
}

// shortest is how much of a node id is enough to name it.
const shortest = 8

// calls reports whether who names the node with that id, name and address.
func calls(who, id, name, addr string) bool {
	if who == "" {
		return false
	}
	host, _, _ := net.SplitHostPort(addr)
	return who == id || who == name || who == addr || who == host || len(who) >= shortest && strings.HasPrefix(id, who)
}

// node says why a node is linked or is not.
func (w *why) node(who string) Answer {
	var a Answer
	here := w.here
	for _, p := range here.Peers {
		if calls(who, p.ID, p.Name, p.Addr) {
			return w.linked(p)
		}
	}
	if calls(who, here.Status.ID, here.Status.Name, "") {
		if w.refusedSelf(&a) {
			return a
		}
		a.Code, a.Cause = CodeOK, fmt.Sprintf("%s is the node that is asked; it has %s", here.Status.Name, plural(len(here.Peers), "peer"))
		return a
	}
	if w.unlinked(&a, who) {
		return a
	}
	for _, s := range w.all[1:] {
		for _, p := range s.Peers {
			if calls(who, p.ID, p.Name, p.Addr) {
				a.Code = CodeUnreachable
				a.Cause = fmt.Sprintf("%s has a link to %s, and %s has none", s.Status.Name, who, here.Status.Name)
				a.because("%s is linked to it at %s", s.Status.Name, p.Addr)
				a.Cure = fmt.Sprintf("let UDP from this host through to %s, or name an address that it can reach: --peer HOST:PORT", p.Addr)
				return a
			}
		}
	}
	a.Code, a.Cause = CodeUnknown, fmt.Sprintf("too little is known of %s", who)
	a.Cure = "ask again in a few seconds; peermesh discover --explain shows what was tried"
	return a
}

// refusedSelf is the cause when this node itself is what others refuse.
func (w *why) refusedSelf(a *Answer) bool {
	for _, e := range slices.Backward(w.here.Events) {
		if e.State == "refused" && e.AgeMs < lately && (e.Code == "duplicate" || e.Code == "incarnation") && (e.ID == w.here.Status.ID || e.Remote) {
			return a.refused(e.Code, e.Reason, w.here.Status.Name)
		}
	}
	return false
}

// linked is the answer about a peer with a link.
func (w *why) linked(p Peer) Answer {
	a := Answer{Code: CodeOK, Cause: fmt.Sprintf("%s is linked, for %v, at %s", p.Name, ms(p.SinceMs), p.Addr)}
	if p.RTTUs > 0 {
		a.because("the last round trip took %.2f ms", float64(p.RTTUs)/1000)
	}
	if p.Namespace != w.here.Status.Namespace {
		a.Code = CodeNamespace
		a.Cause = fmt.Sprintf("%s is linked but lives in namespace %q, this node in %q: their sockets do not meet", p.Name, p.Namespace,
			w.here.Status.Namespace)
		a.Cure = fmt.Sprintf("start one of the two with --namespace of the other: %s or %s", p.Namespace, w.here.Status.Namespace)
		return a
	}
	for _, e := range slices.Backward(w.here.Events) {
		if e.ID == p.ID && e.State == "refused" {
			a.refused(e.Code, e.Reason, p.Name)
			return a
		}
	}
	w.clocks(&a, p)
	downs := 0
	for _, e := range w.here.Events {
		if e.ID == p.ID && e.State == "down" {
			downs++
			a.because("%v ago the link was lost: %s", ms(e.AgeMs), e.Reason)
		}
	}
	if downs > 1 && a.Code == CodeOK {
		a.Cause += fmt.Sprintf("; it was lost %d times before", downs)
		a.Cure = fmt.Sprintf("measure the way there: peermesh path %s", p.Name)
	}
	return a
}

// maxSkew is how far two clocks may differ before it is worth a word: certificates allow an hour.
const maxSkew = 30_000

// clocks compares the wall clock of a peer that was asked with this one's.
func (w *why) clocks(a *Answer, p Peer) {
	for _, s := range w.all[1:] {
		if d := s.Status.WallMs - w.here.Status.WallMs; s.Status.ID == p.ID && max(d, -d) > maxSkew {
			a.because("its clock is %v from this node's", ms(d))
			a.Code, a.Cure = CodeClock, refusals[CodeClock].cure
			a.Cause = fmt.Sprintf("%s is linked, and its clock differs by %v: beyond an hour the two refuse each other", p.Name, ms(max(d, -d)))
		}
	}
}

// unlinked finds why there is no link to a node, from what came of trying and what happened last.
func (w *why) unlinked(a *Answer, who string) bool {
	var down *Event
	for _, e := range slices.Backward(w.here.Events) {
		if !calls(who, e.ID, e.Name, e.Addr) {
			continue
		}
		if e.State == "refused" && a.refused(e.Code, e.Reason, who) {
			return true
		}
		if e.State == "down" && down == nil {
			down = &e
		}
	}
	var tried *Candidate
	for _, c := range w.here.Candidates {
		if !calls(who, c.Node, "", c.Addr) && (down == nil || down.ID != c.Node && down.Addr != c.Addr) {
			continue
		}
		if c.Code != "" && a.refused(c.Code, c.Verdict, nameOr(who, c.Addr)) {
			return true
		}
		if c.Verdict != "" && c.Verdict != "linked" {
			tried = &c
		}
	}
	switch {
	case down != nil:
		a.Code = CodeDown
		a.Cause = fmt.Sprintf("%s was linked until %v ago: %s", nameOr(down.Name, who), ms(down.AgeMs), down.Reason)
		a.Cure = "look whether its process and its host are up, and start it again; what it is owed waits"
		a.because("the link to %s at %s ended %v ago", nameOr(down.Name, who), down.Addr, ms(down.AgeMs))
	case tried != nil:
		a.unreachable(tried.Addr)
	default:
		return false
	}
	if tried != nil {
		a.because("%s, told by %s: %s", tried.Addr, tried.Source, tried.Verdict)
	}
	return true
}

// unreachable is the cause when an address does not answer.
func (a *Answer) unreachable(addr string) {
	a.Code = CodeUnreachable
	a.Cause = fmt.Sprintf("nothing answers at %s: no node runs there, or UDP does not get through", addr)
	_, port, _ := net.SplitHostPort(addr)
	a.Cure = fmt.Sprintf("peermesh doctor --peer %s tells which of the two; then start the node, or let UDP port %s through the firewalls", addr, port)
}

func nameOr(name, other string) string {
	if name != "" {
		return name
	}
	return other
}

// alone is the cause when a node has no peers: what came of each try, then what stands in the way of discovery.
func (w *why) alone(what string) Answer {
	var a Answer
	if w.refusedSelf(&a) {
		a.Cause = what + ": " + a.Cause
		return a
	}
	for _, e := range slices.Backward(w.here.Events) {
		if e.State == "refused" && a.refused(e.Code, e.Reason, nameOr(e.Name, e.Addr)) {
			a.Cause = what + ": " + a.Cause
			return a
		}
	}
	var silent string
	for _, c := range w.here.Candidates {
		if c.Code != "" && a.refused(c.Code, c.Verdict, c.Addr) {
			a.Cause = what + ": " + a.Cause
			return a
		}
		if c.Verdict != "" && c.Verdict != "linked" {
			silent = c.Addr
			a.because("%s, told by %s: %s", c.Addr, c.Source, c.Verdict)
		}
	}
	for _, e := range slices.Backward(w.here.Events) {
		if e.State == "down" {
			a.Code, a.Cause = CodeDown, fmt.Sprintf("%s: %s was linked until %v ago: %s", what, nameOr(e.Name, e.Addr), ms(e.AgeMs), e.Reason)
			a.Cure = "look whether its process and its host are up, and start it again; what it is owed waits"
			return a
		}
	}
	if silent != "" {
		a.unreachable(silent)
		a.Cause = what + ": " + a.Cause
		return a
	}
	for _, p := range w.here.Problems {
		a.because("%s%s: %s", p.Source, onInterface(p.Interface), p.Reason)
	}
	if len(w.here.Problems) > 0 {
		a.Code = CodeMulticast
		a.Cause = what + ": this node has no peers, and discovery by multicast does not work here"
		a.Cure = "name one node of the mesh with --peer HOST:PORT; it tells of the others"
		return a
	}
	a.because("%s at %s: no peers, no addresses", w.here.Status.Name, w.here.Status.Addr)
	a.Code, a.Cause = CodeNobody, what+": this node has no peers and has heard of no address"
	a.Cure = "start the other node, or name its address with --peer HOST:PORT"
	return a
}

func onInterface(name string) string {
	if name == "" {
		return ""
	}
	return " on " + name
}
