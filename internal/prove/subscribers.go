package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strconv"
	"time"
)

// subscribing is `prove subscribers`: one of several durable subscribers is killed after a third of the messages, and
// is back after two thirds. It catches up completely, and the others do not become slower. Then the same with a limit
// and drop-oldest: it gets gaps for what was too much, exactly, and one that comes when all is published gets one.
type subscribing struct {
	count       int
	size        int
	subscribers int
	gauge       int
	pace        float64
	slower      float64
	limit       int
	within      time.Duration
}

func subscribersFlags(f *flag.FlagSet) func(context.Context, *bed) error {
	var v subscribing
	f.IntVar(&v.count, "count", 1_000_000, "messages, for each of the two policies")
	f.IntVar(&v.size, "size", 100, "bytes of each, at least 8")
	f.IntVar(&v.subscribers, "subscribers", 4, "durable subscriptions, each with a process of its own")
	f.IntVar(&v.gauge, "gauge", 200_000, "messages before that, to see how fast it goes")
	f.Float64Var(&v.pace, "pace", 0.5, "part of that rate at which is published, so that the processors of one machine are enough for all; 0: unpaced")
	f.Float64Var(&v.slower, "slower", 0.1, "part by which the others may become slower; 1: that is not judged, for a run that is too short to tell")
	f.IntVar(&v.limit, "limit", 0, "messages that a subscription may be owed under drop-oldest (default: a sixth of them)")
	f.DurationVar(&v.within, "within", 20*time.Minute, "time for all of it")
	return func(ctx context.Context, b *bed) error { return v.play(ctx, b) } // with what the flags will have set
}

func (v subscribing) play(ctx context.Context, b *bed) error {
	ctx, cancel := context.WithTimeoutCause(ctx, v.within, errors.New("it takes too long"))
	defer cancel()
	if v.limit == 0 {
		v.limit = v.count / 6
	}
	most, err := v.gauged(ctx, b)
	if err != nil {
		return err
	}
	if err := v.absence(ctx, b, most*v.pace); err != nil {
		return err
	}
	return v.dropping(ctx, b, most*v.pace)
}

// unjudged reports whether nothing is made of how fast it goes.
func (v subscribing) unjudged() bool { return v.slower >= 1 }

// audience is a publisher and its subscribers.
type audience struct {
	bed     *bed
	channel string
	addrs   []string
	subs    [][]*child // lives of each
	pub     *child
}

// newAudience finds a place for so many subscribers.
func newAudience(b *bed, channel string, subscribers int) (*audience, error) {
	a := &audience{bed: b, channel: channel, subs: make([][]*child, subscribers)}
	for range subscribers {
		addr, err := freeAddr()
		if err != nil {
			return nil, err
		}
		a.addrs = append(a.addrs, addr)
	}
	return a, nil
}

func nameOf(subscriber int) string { return "sub-" + strconv.Itoa(subscriber+1) }

// enter starts the next life of a subscriber.
func (a *audience) enter(i int) error {
	c, err := a.bed.play("sub", a.bed.path(a.channel+"-"+nameOf(i)), "--channel", a.channel, "--name", nameOf(i), "--listen", a.addrs[i])
	if err == nil {
		a.subs[i] = append(a.subs[i], c)
	}
	return err
}

// begin starts the first so many subscribers and, when they are there, the publisher, which waits for them to attach.
func (a *audience) begin(ctx context.Context, present, count, size int, pace float64, limit int) (err error) {
	args := []string{"--channel", a.channel, "--count", strconv.Itoa(count), "--size", strconv.Itoa(size), "--rate", fmt.Sprint(pace),
		"--drop-oldest", strconv.Itoa(limit), "--wait", strconv.Itoa(present)}
	for i, addr := range a.addrs {
		args = append(args, "--peer", addr, "--expect", nameOf(i))
		if i >= present {
			continue
		}
		if err := a.enter(i); err != nil {
			return err
		}
	}
	for _, lives := range a.subs[:present] {
		if err := lives[0].ready(ctx); err != nil {
			return err
		}
	}
	a.pub, err = a.bed.play("pub", a.bed.path(a.channel+"-pub"), args...)
	return err
}

// published waits until n messages are published.
func (a *audience) published(ctx context.Context, n int) error {
	var gone error
	err := a.pub.until(ctx, func() bool {
		gone = a.alive()
		return gone != nil || a.pub.sent.Load() >= int64(n)
	})
	return errors.Join(err, gone)
}

// alive returns an error if a subscriber has ended by itself.
func (a *audience) alive() error {
	for _, lives := range a.subs {
		if n := len(lives); n > 0 && !lives[n-1].over {
			if err := lives[n-1].alive(); err != nil {
				return err
			}
		}
	}
	return nil
}

// end waits until everybody has everything, has all of them end, and reads what they have said.
func (a *audience) end(ctx context.Context, count int) (*issue, []*takings, error) {
	if err := a.pub.finish(ctx, 0); err != nil {
		return nil, nil, err
	}
	for _, lives := range a.subs {
		if err := lives[len(lives)-1].stop(ctx); err != nil {
			return nil, nil, err
		}
	}
	p, err := readIssue(a.pub.log(), count)
	if err != nil {
		return nil, nil, err
	}
	var all []*takings
	for i, lives := range a.subs {
		var logs []string
		for _, c := range lives {
			logs = append(logs, c.log())
		}
		t, err := readTakings(nameOf(i), logs, p)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, t)
	}
	return p, all, nil
}

// gauged is how many messages a second all subscribers get when nobody holds anything back.
func (v subscribing) gauged(ctx context.Context, b *bed) (float64, error) {
	a, err := newAudience(b, "gauge", v.subscribers)
	if err != nil {
		return 0, err
	}
	if err := a.begin(ctx, v.subscribers, v.gauge, v.size, 0, 0); err != nil {
		return 0, err
	}
	p, all, err := a.end(ctx, v.gauge)
	if err != nil {
		return 0, err
	}
	first, last := span(p.at)
	for _, t := range all {
		b.expect(t.whole() && t.gaps == 0, "%s: %v", t.name, t)
		_, end := span(t.at)
		last = max(last, end)
	}
	most := float64(v.gauge) / time.Duration(last-first).Seconds()
	b.found("unpaced, %d messages for %d subscriptions: %.0f a second to each", v.gauge, v.subscribers, most)
	return most, nil
}

// absent is when the one was away.
type absent struct{ left, back int64 }

// away has subscriber i be away for the second third.
func (a *audience) away(ctx context.Context, i, count int) (w absent, err error) {
	if err := a.published(ctx, count/3); err != nil {
		return w, err
	}
	a.subs[i][0].kill()
	w.left = monotonic()
	if err := a.published(ctx, count*2/3); err != nil {
		return w, err
	}
	w.back = monotonic()
	return w, a.enter(i)
}

// absence plays the run in which everything is kept for the one who is away.
func (v subscribing) absence(ctx context.Context, b *bed, pace float64) error {
	one := v.subscribers - 1
	b.found("-- %d messages, %.0f a second, for %d subscriptions; %s is killed after %d and back after %d", v.count, pace, v.subscribers,
		nameOf(one), v.count/3, v.count*2/3)
	a, err := newAudience(b, "kept", v.subscribers)
	if err != nil {
		return err
	}
	if err := a.begin(ctx, v.subscribers, v.count, v.size, pace, 0); err != nil {
		return err
	}
	w, err := a.away(ctx, one, v.count)
	if err != nil {
		return err
	}
	p, all, err := a.end(ctx, v.count)
	if err != nil {
		return err
	}
	for i, t := range all {
		b.expect(t.whole() && t.gaps == 0 && (t.again == 0 || i == one), "%s: %v", t.name, t)
	}
	v.conserved(b, p, all)
	v.rates(b, p, all, w)
	return nil
}

// dropping plays the run with a limit. One more subscriber is known from the beginning and comes when everything is
// published.
func (v subscribing) dropping(ctx context.Context, b *bed, pace float64) error {
	one, late := v.subscribers-1, v.subscribers
	b.found("-- the same with at most %d owed to each, drop-oldest; %s comes when all is published", v.limit, nameOf(late))
	a, err := newAudience(b, "limited", v.subscribers+1)
	if err != nil {
		return err
	}
	if err := a.begin(ctx, v.subscribers, v.count, v.size, pace, v.limit); err != nil {
		return err
	}
	if _, err := a.away(ctx, one, v.count); err != nil {
		return err
	}
	if err := a.published(ctx, v.count); err != nil {
		return err
	}
	if err := a.enter(late); err != nil {
		return err
	}
	p, all, err := a.end(ctx, v.count)
	if err != nil {
		return err
	}
	for _, t := range all[:one] {
		// Whoever is too slow for the limit loses something too, and is told: no fault on a machine that is busy otherwise.
		b.expect(t.whole() && t.again == 0 && (t.gaps == 0 || v.unjudged()), "%s: %v", t.name, t)
	}
	b.expect(all[one].whole() && all[one].gaps > 0, "%s: %v", nameOf(one), all[one])
	b.found("%s was told of %d holes, the first %v: it was at its limit when it came back", nameOf(one), all[one].holes.Len(), all[one].holes.Ranges()[:1])
	kept := uint64(v.limit)
	got := all[late].holes.Ranges()
	b.expect(all[late].whole() && all[late].again == 0 && len(got) == 1 && got[0].From == 1 && got[0].To == uint64(v.count)-kept,
		"%s: one hole %v and the last %d messages; %v", nameOf(late), got, kept, all[late])
	v.conserved(b, p, all)
	for _, t := range all[:one] {
		first, end := span(p.at)
		b.found("%s: %v, at most %v behind", t.name, rateOf(t.at, first, end), behind(t.at, p.at))
	}
	return nil
}

// conserved holds the publisher's ledger to what the subscribers say. What the one who was killed had done without
// anybody having heard of it may have been dropped for him meanwhile: then he is not told of a hole there.
func (v subscribing) conserved(b *bed, p *issue, all []*takings) {
	copies, got, holes := uint64(len(all)*v.count), uint64(0), uint64(0)
	for _, t := range all {
		got += uint64(t.got)
		holes += t.holes.Count()
	}
	l := p.ledger
	dropped := l.Dropped["limit"]
	b.expect(p.got == v.count && l.Accepted == copies && l.Done+dropped == copies && dropped >= holes,
		"the publisher: %d published, %d copies = %d done + %d dropped (limit), %d of these handled all the same", p.got, l.Accepted, l.Done, dropped, dropped-holes)
}

// level is how little behind another the one must be to have caught up.
const level = 100 * time.Millisecond

// caughtUp is when one had caught up with another.
func caughtUp(one, another []int64, since int64) int64 {
	for seq, at := range one {
		if at > since && at-another[seq] < int64(level) {
			return at
		}
	}
	_, last := span(one)
	return last
}

// rates shows what the others had of it.
func (v subscribing) rates(b *bed, p *issue, all []*takings, w absent) {
	one := all[len(all)-1]
	first, end := span(p.at)
	caught := caughtUp(one.at, all[0].at, w.back)
	b.found("%s had caught up %v after its start; publishing went on for %v", one.name, time.Duration(caught-w.back).Round(time.Millisecond),
		time.Duration(end-w.back).Round(time.Millisecond))
	from, to := first+(w.left-first)/5, min(caught, end)
	b.found("published: %v before, then %v, then %v", rateOf(p.at, from, w.left), rateOf(p.at, w.left, w.back), rateOf(p.at, w.back, to))
	for _, t := range all[:len(all)-1] {
		before, during := rateOf(t.at, from, w.left), rateOf(t.at, w.back, to)
		b.found("%s: %v before, then %v, then %v; at most %v behind", t.name, before, rateOf(t.at, w.left, w.back), during, behind(t.at, p.at))
		if v.unjudged() {
			continue
		}
		b.expect(during.median >= (1-v.slower)*before.median, "%s keeps %.0f %% of its rate while another catches up, in the worst %v %.0f %%",
			t.name, 100*during.median/before.median, window, 100*during.least/before.median)
	}
}
