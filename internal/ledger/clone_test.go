package ledger

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"peermesh/internal/marks"
	"peermesh/internal/ranges"
	"peermesh/internal/wire"
)

// The exploration goes on from every state in every direction, so it copies worlds.

func (w *world) clone() *world {
	n := *w
	n.block = slices.Clip(w.block) // what w adds is not n's
	n.store = w.store.clone()
	cons := map[*Consumer]*Consumer{}
	n.l = w.l.clone(cons)
	n.l.onSettl = n.settled
	n.nodes = make([]*receiver, len(w.nodes))
	for i, r := range w.nodes {
		n.nodes[i] = r.clone(cons[r.con])
	}
	n.firsts = slices.Clone(w.firsts)
	n.ghosts = make([][]ghost, len(w.ghosts))
	for i, gs := range w.ghosts {
		n.ghosts[i] = slices.Clone(gs)
	}
	return &n
}

func (r *receiver) clone(con *Consumer) *receiver {
	n := *r
	n.con = con
	n.memory = cloneStream(r)
	n.links = make([]*link, len(r.links))
	for i, k := range r.links {
		c := *k
		c.down, c.up, c.renews = slices.Clone(k.down), slices.Clone(k.up), maps.Clone(k.renews)
		n.links[i] = &c
		if r.cur == k {
			n.cur = &c
		}
	}
	n.queue, n.running, n.failed = slices.Clone(r.queue), slices.Clone(r.running), slices.Clone(r.failed)
	n.acked = slices.Clone(r.acked) // saved is never changed in place
	return &n
}

// cloneStream builds the same memory from what it tells.
func cloneStream(r *receiver) *marks.Stream {
	n := new(marks.Stream)
	if r.memory.Known() {
		if _, err := n.Attach(r.last); err != nil {
			panic(err)
		}
	}
	var a wire.Attached
	r.memory.Attached(&a)
	for edition := uint64(1); edition <= 4; edition++ {
		for _, part := range []struct {
			in   []wire.EditionRanges
			move func(uint64, uint64)
		}{{a.Held, nil}, {a.Done, n.Done}, {a.Lost, n.Lose}} {
			for _, e := range part.in {
				if e.Edition == edition {
					copyMarks(n, e, part.move)
				}
			}
		}
	}
	return n
}

func copyMarks(n *marks.Stream, e wire.EditionRanges, move func(uint64, uint64)) {
	for _, r := range e.Ranges {
		for seq := r.From; seq <= r.To; seq++ {
			if _, err := n.Arrive(e.Edition, seq); err != nil {
				panic(err)
			}
			if move != nil {
				move(e.Edition, seq)
			}
		}
	}
}

// clone copies a ledger and notes in cons which consumer became which.
func (l *Ledger) clone(cons map[*Consumer]*Consumer) *Ledger {
	n := *l
	n.consumers = make([]*Consumer, len(l.consumers))
	for i, c := range l.consumers {
		n.consumers[i] = new(Consumer)
		cons[c] = n.consumers[i]
	}
	for i, c := range l.consumers {
		c.cloneTo(n.consumers[i], cons)
	}
	n.ring = ring{head: l.ring.head, n: l.ring.n, most: l.ring.most}
	for _, p := range l.ring.pages {
		n.ring.pages = append(n.ring.pages, p.clone(cons))
	}
	n.retry.items = slices.Clone(l.retry.items)
	n.delayed.items = slices.Clone(l.delayed.items)
	n.expiry.items = slices.Clone(l.expiry.items)
	n.due.items = slices.Clone(l.due.items)
	n.late = l.late.Clone()
	n.lanes = make(map[uint64]*lane, len(l.lanes))
	for key, ln := range l.lanes {
		n.lanes[key] = &lane{head: ln.head, waiting: ln.waiting.clone()}
	}
	n.spare, n.aside = nil, nil
	n.told, n.away = slices.Clone(l.told), slices.Clone(l.away)
	n.stage = stage{open: l.stage.open, marks: slices.Clone(l.stage.marks[l.stage.head:]), dropped: l.stage.dropped.Clone()}
	for i := range n.stage.marks {
		n.stage.marks[i].c = cons[n.stage.marks[i].c]
	}
	n.dropped = maps.Clone(l.dropped)
	n.favoured = cons[l.favoured]
	return &n
}

func (p page) clone(cons map[*Consumer]*Consumer) page {
	if p.row != nil {
		u := *p.row
		u.holder, u.self = cons[u.holder], cloneProcesses(u.self, cons)
		return page{row: &u}
	}
	list := *p.list
	for i := range list {
		list[i].holder, list[i].suspects = cons[list[i].holder], cloneProcesses(list[i].suspects, cons)
	}
	return page{list: &list}
}

func (q *spans) clone() spans { return spans{s: slices.Clone(q.s[q.head:])} }

func (f *fifo) clone() fifo { return fifo{s: slices.Clone(f.s[f.head:])} }

func cloneProcesses(ps []process, cons map[*Consumer]*Consumer) []process {
	out := slices.Clone(ps)
	for i := range out {
		out[i].who = cons[out[i].who]
	}
	return out
}

func (c *Consumer) cloneTo(n *Consumer, cons map[*Consumer]*Consumer) {
	*n = *c
	n.self = cloneProcesses(c.self, cons)
	n.out, n.parked.items = c.out.clone(), slices.Clone(c.parked.items)
	n.confirms = confirms{current: c.confirms.current.Clone(), ranges: c.confirms.ranges, answers: c.confirms.answers}
	for _, o := range c.confirms.older {
		n.confirms.older = append(n.confirms.older, &editionMarks{edition: o.edition, set: o.set.Clone()})
	}
	n.revoke = c.revoke.Clone()
	for _, sets := range []struct{ from, to *gapSets }{{&c.holes.waiting, &n.holes.waiting},
		{&c.holes.told[0], &n.holes.told[0]}, {&c.holes.told[1], &n.holes.told[1]}} {
		*sets.to = slices.Clone(*sets.from)
		for i := range *sets.to {
			(*sets.to)[i] = (*sets.from)[i].Clone()
		}
	}
}

// A field that clone does not know would be shared between states, or lost; one that
// key does not know would make different states look the same.
func TestCloneAndKeyKnowEveryField(t *testing.T) {
	for _, c := range []struct {
		v    any
		want string
	}{
		{Ledger{}, "mode earlier epoch now ring fresh unsure mark volatile ahead next retry delayed expiry oldest lanes spare parked waiting early absent due away aside late consumers up revoked told stage turn favoured left shared counts dropped settled onSettl"},
		{Consumer{}, "Who hash number attached nonce self store renewed over stale paused creditMsgs creditBytes sentMsgs sentBytes leased alone out behind parked confirms staged revoke holes"},
		{entry{}, "seq base record accepted expires key holder suspects attempt deliveries lost state taken begun unknown overdue early absent"},
		{stage{}, "marks head open dropped"}, {stagedMark{}, "c edition seqs reason n"}, {lane{}, "head waiting"}, {fifo{}, "s head"}, {spans{}, "s head"}, {ring{}, "pages head n most spare idle"}, {page{}, "list row"},
		{row{}, "first n leased taken done settled holder self pieces used ends"}, {piece{}, "from at base accepted data"}, {process{}, "who nonce nack"},
		{confirms{}, "current older ranges answers out parts"}, {holes{}, "start limit waiting told proof news"}, {ranges.Set{}, "buf lo hi count"},
		{marks.Stream{}, "incarnation nonce number known editions last index duplicates"},
		{world{}, "without plain mode now life firsts nextSeq block base l nodes ghosts store keeps wrong"},
		{store{}, "id items settled mark holders met dirty fetched writing wrote raise batch"},
		{receiver{}, "con nonce disk saved acked last memory links cur queue running failed until lessor unsaid window gone"},
		{link{}, "number open met there down up pipe life attach greeted proven asked renews renew credit arrived"},
	} {
		typ := reflect.TypeOf(c.v)
		var names []string
		for i := range typ.NumField() {
			names = append(names, typ.Field(i).Name)
		}
		if got := strings.Join(names, " "); got != c.want {
			t.Errorf("%v has the fields\n %s\nand clone_test.go and explore_test.go know\n %s", typ, got, c.want)
		}
	}
}
