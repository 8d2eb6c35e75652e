package node

import (
	"cmp"
	"os"
	"slices"
	"time"

	"peermesh/internal/insight"
	"peermesh/internal/wire"
	"peermesh/patterns"
)

// Sight is what a node sees and counts at one moment, as peermesh status, peers, sockets
// and why show it.
type Sight = insight.Sight

// looker is a socket that can be asked for a message.
type looker interface {
	Look(seq uint64) insight.Message
}

// Look takes a snapshot. about is a name, NAME/SEQ for a message of a Push, or empty: then
// all sockets and decisions are in it, otherwise those of the name, and of the other sockets
// only what they are called. It does not block.
func (n *Node) Look(about string) Sight {
	now := time.Now()
	s := n.look(now)
	if about == "" {
		return s
	}
	name := about
	if base, seq, ok := insight.Split(about); ok && !n.named(about) {
		name = base
		n.mu.Lock()
		p, _ := n.senders[socketKey{kind: wire.Push, name: base}].(looker)
		n.mu.Unlock()
		if p != nil {
			m := p.Look(seq)
			s.Message = &m
		}
	}
	return s.About(name)
}

// named reports whether a socket of that very name is open.
func (n *Node) named(name string) bool {
	receivers, senders := n.openSockets()
	return slices.ContainsFunc(receivers, func(r receiver) bool { return r.Name() == name }) ||
		slices.ContainsFunc(senders, func(s sender) bool { return s.Name() == name })
}

func (n *Node) look(now time.Time) Sight {
	s := Sight{Peers: []insight.Peer{}, Sockets: []insight.Socket{}, Candidates: []insight.Candidate{}, Problems: []insight.Problem{}}
	for _, p := range n.Peers() {
		s.Peers = append(s.Peers, sightOfPeer(p, now))
	}
	slices.SortFunc(s.Peers, func(a, b insight.Peer) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	var sum patterns.Ledger
	for _, o := range n.Sockets() {
		s.Sockets = append(s.Sockets, n.sightOfSocket(o, now))
		if o.Sender != nil {
			sum.Add(o.Sender.Ledger)
		}
	}
	for _, c := range n.Candidates() {
		cv := insight.Candidate{Node: c.Node, Addr: c.Addr, Source: c.Source, Interface: c.Interface, Verdict: c.Verdict, Code: string(c.Code)}
		if !c.At.IsZero() {
			cv.AgeMs = now.Sub(c.At).Milliseconds()
		}
		s.Candidates = append(s.Candidates, cv)
	}
	for _, p := range n.Problems() {
		s.Problems = append(s.Problems, insight.Problem{Source: p.Source, Interface: p.Interface, Reason: p.Err.Error()})
	}
	slices.SortFunc(s.Problems, func(a, b insight.Problem) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Interface, b.Interface))
	})
	for _, e := range n.hub.recent() {
		s.Events = append(s.Events, SightOfEvent(e, now))
	}
	n.memory.mu.Lock()
	s.Decisions = n.memory.rings.Recent("", now)
	n.memory.mu.Unlock()
	s.Status = insight.Status{ID: n.ID().String(), Name: n.Name(), Namespace: n.Namespace(), Mesh: n.Mesh(), Addr: n.Addr().String(),
		Incarnation: n.Incarnation(), PID: os.Getpid(), Peers: len(s.Peers), Sockets: len(s.Sockets), Problems: len(s.Problems), Policy: n.Policy().Version,
		Ledger: whole(sum), WallMs: now.UnixMilli(), Disk: n.sightOfDisk()}
	if t, err := n.creds.NotAfter(); err == nil { // who cannot make one is refused everywhere, and says so
		s.Status.ExpiresMs = t.UnixMilli()
	}
	return s
}

// whole is a ledger whose every part can be read by a script.
func whole(l patterns.Ledger) insight.Ledger {
	if l.Dropped == nil {
		l.Dropped = map[string]uint64{}
	}
	return insight.Ledger(l)
}

func (n *Node) sightOfDisk() *insight.Disk {
	if n.store == nil {
		return nil
	}
	st := n.store.Stat()
	d := &insight.Disk{Used: st.Used, Quota: st.Quota, Reserve: st.Reserve}
	if st.Failed != nil {
		d.Failed = st.Failed.Error()
	}
	if st.Damage != nil {
		d.Damage = st.Damage.Error()
	}
	return d
}

func sightOfPeer(p Peer, now time.Time) insight.Peer {
	s := insight.Peer{ID: p.ID.String(), Name: p.Name, Namespace: p.Namespace, Addr: p.Addr, State: Up.String(),
		Incarnation: p.Incarnation, SinceMs: now.Sub(p.Since).Milliseconds(), RTTUs: p.RTT.Microseconds(), Via: p.Via, Stripes: p.Stripes, Offers: []insight.Offer{}}
	for _, o := range p.Offers {
		s.Offers = append(s.Offers, insight.Offer{Kind: o.Kind.String(), Name: o.Name})
	}
	slices.SortFunc(s.Offers, func(a, b insight.Offer) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name)) })
	return s
}

func (n *Node) sightOfSocket(o SocketInfo, now time.Time) insight.Socket {
	s := insight.Socket{Kind: o.Kind.String(), Name: o.Name, Label: o.Label}
	n.memory.mu.Lock()
	s.StillMs = n.memory.stills.For(o.key(), o.work(), now).Milliseconds()
	n.memory.mu.Unlock()
	if r := o.Receiver; r != nil {
		s.Received = &insight.Received{Delivered: r.Delivered, Done: r.Done, Nacked: r.Nacked, Returned: r.Returned, Expired: r.Expired,
			Duplicates: r.Duplicates, Redelivered: r.Redelivered, Gaps: r.Gaps, Bytes: r.Bytes, Queued: r.Queued, Begun: r.Begun, Pipes: r.Pipes,
			Paused: r.Paused}
	}
	if o.Sender == nil {
		return s
	}
	l := whole(o.Sender.Ledger)
	s.Ledger, s.Bytes, s.OnDisk, s.Bound, s.BoundBytes = &l, o.Sender.Bytes, o.Sender.OnDisk, o.Sender.Bound, o.Sender.BoundBytes
	s.Redelivered, s.LateDone = o.Sender.Redelivered, o.Sender.LateDone
	for _, c := range o.Sender.Consumers {
		s.Consumers = append(s.Consumers, insight.Consumer{ID: c.Who.Node.String(), Name: c.Name, Label: c.Who.Label, Attached: c.Attached,
			Paused: c.Paused, Leased: c.Leased, Room: c.Room})
	}
	slices.SortFunc(s.Consumers, func(a, b insight.Consumer) int { return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Label, b.Label)) })
	return s
}

// SightOfEvent is an event as others are told of it.
func SightOfEvent(e PeerEvent, now time.Time) insight.Event {
	s := insight.Event{AgeMs: now.Sub(e.Time).Milliseconds(), Name: e.Name, Addr: e.Addr, State: e.State.String(), Code: string(e.Code),
		Reason: e.Reason, Remote: e.Remote}
	if !e.ID.IsZero() {
		s.ID = e.ID.String()
	}
	return s
}
