package history

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"peermesh/internal/ranges"
)

// conclude judges what only the whole run can tell.
func (j *judge) conclude() {
	j.nodes = nodesOf(j.lives)
	if j.run.Replayed {
		j.takeReplays()
	}
	for _, label := range slices.Sorted(maps.Keys(j.streams)) {
		s := j.streams[label]
		j.concludeMessages(s)
		for _, sub := range slices.Sorted(maps.Keys(s.groups)) {
			j.concludeCopies(s.groups[sub])
		}
	}
	j.concludeOutdated()
	j.concludeRequests()
	j.concludeLives()
	j.concludeFlags()
}

// takeReplays lets each dead letter be sent once more without being seen to.
func (j *judge) takeReplays() {
	for _, s := range j.streams {
		for _, c := range s.groups {
			for seq, r := range c.receipts.all() {
				if m := s.messages.at(seq); r.state == "dead" && m.sent.known() {
					j.unknown[payload{s.node, m.sentHash}]++
				}
			}
		}
	}
}

// nodeLives are the lives of one node id, by the time of their ready.
type nodeLives struct {
	lives []uint32
	until int64 // something of this node that happened before may have been left unprinted by a life that was killed
}

func nodesOf(lives []living) map[string]*nodeLives {
	nodes := map[string]*nodeLives{}
	for i := range lives {
		if l := &lives[i]; l.id != "" {
			n := nodes[l.id]
			if n == nil {
				n = &nodeLives{until: math.MinInt64}
				nodes[l.id] = n
			}
			n.lives = append(n.lives, uint32(i))
		}
	}
	for _, n := range nodes {
		slices.SortStableFunc(n.lives, func(a, b uint32) int {
			return cmp.Compare(lives[a].ready, lives[b].ready)
		})
		for k, i := range n.lives {
			if !lives[i].End.abrupt() {
				continue
			}
			if n.until = math.MaxInt64; k+1 < len(n.lives) {
				n.until = lives[n.lives[k+1]].ready
			}
		}
	}
	return nodes
}

// concludeMessages judges what was sent and what was seen of it: I1, I2.
func (j *judge) concludeMessages(s *stream) {
	for seq, m := range s.messages.all() {
		switch {
		case m.sent.known() && m.seen.known():
			j.count(noPhantom)
			if m.sentHash != m.seenHash {
				j.fault(noPhantom, []place{m.sent, m.seen}, "message %d of %s is delivered with another body than it was sent with",
					seq, short(s.label))
			}
		case m.seen.known():
			j.count(noPhantom)
			if p := (payload{s.node, m.seenHash}); j.unknown[p] > 0 {
				j.unknown[p]--
			} else if s.kind != "req" || j.asked[p] == 0 {
				j.fault(noPhantom, []place{m.seen}, "message %d of %s was sent by nobody", seq, short(s.label))
				continue
			} else {
				j.asked[p]--
			}
		case !m.sent.known():
			continue
		}
		if j.run.Drained && s.kind != "req" && s.durable(m) {
			j.count(noLoss)
			if !j.hasFate(s, seq) {
				at := []place{m.sent}
				if !m.sent.known() {
					at = []place{m.seen}
				}
				j.fault(noLoss, at, "message %d of %s is lost", seq, short(s.label))
			}
		}
	}
}

// hasFate reports whether a message has got a fate, printed or perhaps not: its sender was killed when it could have
// known of one, and somebody had the message who has answered, or has taken his answer to the grave.
func (j *judge) hasFate(s *stream, seq uint64) bool {
	for _, c := range s.groups {
		r := c.receipts.at(seq)
		if r.settled.known() {
			return true
		}
		sender := j.nodes[s.node]
		if sender == nil {
			continue
		}
		for _, h := range r.handlings() {
			if h.done != 0 && h.doneT < sender.until || h.t < sender.until && j.lives[h.life].End.abrupt() {
				return true
			}
		}
	}
	return false
}

// concludeCopies judges what became of the messages of one queue or subscription: I3, I5, I7, I8, I12.
func (j *judge) concludeCopies(c *copies) {
	for seq, r := range c.receipts.all() {
		all := r.handlings()
		if r.settled.known() {
			j.concludeFate(c, seq, r, all)
		}
		for i, h := range all {
			if h.again != 0 {
				j.fault(oneUnflagged, []place{{h.life, h.done}, {h.life, h.again}}, "message %d of %s is delivered again where it was done",
					seq, short(c.stream.label))
			}
			if h.done != 0 && j.lives[h.life].Store != "" && c.stream.durable(c.stream.messages.at(seq)) {
				j.concludeDone(c, seq, h, all[i+1:])
			}
		}
	}
	if len(c.orders) == 1 {
		for _, d := range c.disorder {
			j.fault(inOrder, d.at, "message %d of %s comes first after %d", d.after, short(c.stream.label), d.before)
		}
	}
	j.concludeHoles(c)
}

// concludeDone looks for deliveries at a store after its own durable done.
func (j *judge) concludeDone(c *copies, seq uint64, done handling, later []handling) {
	for _, h := range later {
		if h.deliver != 0 && j.lives[h.life].Store == j.lives[done.life].Store {
			j.fault(oneUnflagged, []place{{done.life, done.done}, {h.life, h.deliver}},
				"message %d of %s is delivered again at the store that has it as done", seq, short(c.stream.label))
			return
		}
	}
}

// concludeFate holds a fate to what receivers say: who is said to have handled a message did, and nobody got it later
// who was not there yet.
func (j *judge) concludeFate(c *copies, seq uint64, r *receipt, all []handling) {
	for _, h := range all {
		if l := &j.lives[h.life]; h.deliver != 0 && l.ready > r.settledAt {
			j.fault(settledStays, []place{r.settled, {h.life, h.deliver}}, "message %d of %s is %s, and is sent to a receiver that came later",
				seq, short(c.stream.label), r.state)
		}
	}
	if r.state != "done" || r.by == "" {
		return
	}
	j.count(doneByHolder)
	what, at := "was never delivered there", []place{r.settled}
	for _, h := range all {
		l := &j.lives[h.life]
		if l.id != r.by || h.deliver == 0 {
			continue
		}
		switch {
		case h.t > r.settledAt:
			what = "was delivered there later"
		case h.done == 0 && !l.End.abrupt():
			what = "was not answered there"
		default:
			return
		}
		at = append(at, place{h.life, h.deliver})
	}
	j.fault(doneByHolder, at, "message %d of %s is said to be done by %s, and %s", seq, short(c.stream.label), r.by, what)
}

// concludeHoles looks for messages between others that a subscription neither got nor was told to do without. With
// several receivers that come and go only the sender knows what each was owed.
func (j *judge) concludeHoles(c *copies) {
	switch {
	case c.some || len(c.orders) != 1 || c.stream.levels["best-effort"]:
		return
	case !j.run.Drained && (c.stream.kind != "pub" || c.sub == "" || j.nodes[c.sub] == nil):
		return // what is missing may still come; an ephemeral subscriber gets everything in order
	}
	var got ranges.Set
	for seq, r := range c.receipts.all() {
		if slices.ContainsFunc(r.handlings(), func(h handling) bool { return h.deliver != 0 }) {
			got.Add(seq, seq)
		}
	}
	first, ok := got.Min()
	if !ok {
		return
	}
	last, _ := got.Max()
	got.AddSet(&c.gaps)
	for hole := range got.Missing(first, last) {
		r := c.receipts.at(hole.From)
		at := []place{}
		if m := c.stream.messages.at(hole.From); m.sent.known() {
			at = append(at, m.sent)
		}
		if r.settled.known() {
			at = append(at, r.settled)
		}
		j.fault(noHole, at, "%d to %d of %s %s neither came nor lie in a gap", hole.From, hole.To, short(c.stream.label), c.sub)
	}
}

// concludeOutdated looks for messages of a process that were accepted after those of its successor: I10.
func (j *judge) concludeOutdated() {
	for _, id := range slices.Sorted(maps.Keys(j.nodes)) {
		j.concludeIncarnations(j.nodes[id])
	}
	for _, label := range slices.Sorted(maps.Keys(j.streams)) {
		s := j.streams[label]
		if n := j.nodes[s.node]; n != nil && len(n.lives) > 1 {
			for _, sub := range slices.Sorted(maps.Keys(s.groups)) {
				j.concludeSuccession(n, s.groups[sub])
			}
		}
	}
}

// concludeIncarnations holds the lives of one store to rising incarnations.
func (j *judge) concludeIncarnations(n *nodeLives) {
	for k := 1; k < len(n.lives); k++ {
		a, b := &j.lives[n.lives[k-1]], &j.lives[n.lives[k]]
		j.count(noOlder)
		if a.Store != "" && a.Store == b.Store && a.incarnation >= b.incarnation {
			j.fault(noOlder, []place{a.readyAt, b.readyAt}, "incarnation %d of %s comes after %d", b.incarnation, b.id, a.incarnation)
		}
	}
}

// concludeSuccession looks for messages that a life sent after a higher incarnation was there, and that a store took
// after the first one of that.
func (j *judge) concludeSuccession(n *nodeLives, c *copies) {
	type contact struct {
		store string
		life  uint32
	}
	first := map[contact]int64{}
	var suspects []uint64
	for seq, r := range c.receipts.all() {
		m := c.stream.messages.at(seq)
		if !m.sent.known() {
			continue
		}
		for _, h := range r.handlings() {
			at := contact{j.lives[h.life].where(), m.sent.life}
			if t, ok := first[at]; h.deliver != 0 && (!ok || h.t < t) {
				first[at] = h.t
			}
		}
		if slices.ContainsFunc(n.lives, func(i uint32) bool { return j.succeeds(i, m.sent.life) && m.begun > j.lives[i].ready }) {
			suspects = append(suspects, seq)
		}
	}
	for _, seq := range suspects {
		m := c.stream.messages.at(seq)
		for _, h := range c.receipts.at(seq).handlings() {
			for _, i := range n.lives {
				t, ok := first[contact{j.lives[h.life].where(), i}]
				if ok && h.deliver != 0 && j.succeeds(i, m.sent.life) && m.begun > j.lives[i].ready && t < h.t {
					j.fault(noOlder, []place{m.sent, {h.life, h.deliver}}, "message %d of %s is from incarnation %d and is accepted after %d",
						seq, short(c.stream.label), j.lives[m.sent.life].incarnation, j.lives[i].incarnation)
				}
			}
		}
	}
}

// succeeds reports whether life a has a higher incarnation than life b of the same node.
func (j *judge) succeeds(a, b uint32) bool { return j.lives[a].incarnation > j.lives[b].incarnation }

// concludeLives judges summaries: I13, I16.
func (j *judge) concludeLives() {
	last := map[string]*living{}
	for i := 1; i < len(j.lives); i++ {
		l := &j.lives[i]
		switch l.Role {
		case "push", "forward":
			j.concludeLedger(l)
			last[l.where()] = l
		case "pub":
			last[l.where()] = l
		}
	}
	if !j.run.Drained {
		return
	}
	for _, who := range slices.Sorted(maps.Keys(last)) {
		if l := last[who]; l.Store != "" || !l.End.abrupt() { // what only a killed process knew of is not owed any more
			j.concludeDrained(l)
		}
	}
}

// concludeLedger holds a summary to the events before it.
func (j *judge) concludeLedger(l *living) {
	if !l.summary.known() {
		return
	}
	g := &l.ledger
	for _, c := range []struct {
		what           string
		ledger, events uint64
	}{
		{"accepted", g.Accepted, l.sent}, {"done", g.Done, l.settled["done"]}, {"dead", g.Dead, l.settled["dead"]},
		{"expired", g.Expired, l.settled["expired"]}, {"dropped", g.dropped(), l.settled["dropped"]},
	} {
		j.count(conserved)
		if c.ledger != c.events {
			j.fault(conserved, []place{l.summary}, "%d %s in the ledger, %d by the events", c.ledger, c.what, c.events)
		}
	}
}

// concludeDrained holds the last life of a sender to having nothing left.
func (j *judge) concludeDrained(l *living) {
	j.count(drained)
	at := []place{l.summary}
	if !l.summary.known() {
		at = []place{l.readyAt}
	}
	switch owed := l.ledger.Queued + l.ledger.Leased; {
	case l.End.abrupt():
		j.fault(drained, at, "the last life of %s was %s", l.where(), l.End.How)
	case l.End.Code != 0:
		j.fault(drained, at, "the last life of %s ended with exit code %d", l.where(), l.End.Code)
	case !l.summary.known():
		j.fault(drained, at, "the last life of %s ended without a summary", l.where())
	case owed > 0:
		j.fault(drained, at, "%s still owes %d messages", l.where(), owed)
	case j.run.Within > 0 && l.ended-j.run.Healed > j.run.Within:
		j.fault(drained, at, "%s took %d ms to drain, more than %d", l.where(), (l.ended-j.run.Healed)/1e6, j.run.Within/1e6)
	}
}

// Flags are no way out: fewer than these percents of the deliveries may bear one, in a run with kills that has so many
// deliveries that a share means something.
const (
	maxFlagged     = 30
	minForFlagging = 1000
)

func (j *judge) concludeFlags() {
	kills := 0
	for i := range j.run.Lives {
		if j.run.Lives[i].End.abrupt() {
			kills++
		}
	}
	r := &j.report
	r.Kills = kills
	if kills == 0 || r.Deliveries < minForFlagging {
		return
	}
	j.count(fewFlags)
	if r.Flagged*100 >= r.Deliveries*maxFlagged {
		j.fault(fewFlags, nil, "%d of %d deliveries are flagged", r.Flagged, r.Deliveries)
	}
}
