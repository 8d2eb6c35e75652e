package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"peermesh/internal/history"
)

// poisoning is `prove poison`: one message of many crashes whoever handles it. After so many deliveries it is a dead
// letter, the rest has flowed around it, and replayed to somebody who can handle it, it is handled.
type poisoning struct {
	count      int
	deliveries int
	hard       bool
}

func poisonFlags(f *flag.FlagSet) func(context.Context, *bed) error {
	var p poisoning
	f.IntVar(&p.count, "count", 100, "messages")
	f.IntVar(&p.deliveries, "deliveries", 10, "dead after `N`; the pauses between them double")
	f.BoolVar(&p.hard, "hard", false, "it kills the puller, not only the command that the puller runs")
	return func(ctx context.Context, b *bed) error { return p.play(ctx, b) } // with what the flags will have set
}

// poison is the body of the message.
const poison = "poison"

func (p poisoning) play(ctx context.Context, b *bed) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Minute, errors.New("the poison is still not dead"))
	defer cancel()
	addr, err := freeAddr()
	if err != nil {
		return err
	}
	b.run.Drained, b.run.Replayed = true, true
	push := history.Life{Role: "push", Store: b.path("push")}
	sender, err := b.start(push, append([]string{queue, "--peer", addr, "--max-deliver", strconv.Itoa(p.deliveries)}, p.bodies()...)...)
	if err != nil {
		return err
	}
	if err := p.suffer(ctx, b, sender, addr); err != nil {
		return err
	}
	if err := p.dead(b, sender); err != nil {
		return err
	}
	return p.replay(ctx, b, push.Store, addr)
}

// bodies has the poison after a third.
func (p poisoning) bodies() (bodies []string) {
	for i := range p.count {
		if i == p.count/3 {
			bodies = append(bodies, poison)
		}
		bodies = append(bodies, "sound "+strconv.Itoa(i))
	}
	return bodies
}

// suffer lets a puller handle everything, and starts it again whenever the poison has killed it.
func (p poisoning) suffer(ctx context.Context, b *bed, sender *child, addr string) error {
	victim := "$$"
	if p.hard {
		victim = "$PPID"
	}
	for {
		puller, err := b.start(history.Life{Role: "pull", Store: b.path("pull")}, queue, "--listen", addr, "--concurrency", "4",
			"--exec", "sh -c 'grep -q "+poison+" && kill -9 "+victim+"; exit 0'")
		if err != nil {
			return err
		}
		select {
		case <-sender.ended:
			if err := sender.finish(ctx, 0); err != nil {
				return err
			}
			return puller.stop(ctx)
		case <-puller.ended:
			if puller.wait(); !p.hard {
				return puller.alive()
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// dead checks what has become of the messages.
func (p poisoning) dead(b *bed, sender *child) error {
	fates, err := events(b, sender, "settled")
	if err != nil {
		return err
	}
	states := map[string]int{}
	var dead, last shown
	for _, e := range fates {
		if states[e.State]++; e.State == "dead" {
			dead = e
		} else {
			last = e
		}
	}
	b.expect(states["dead"] == 1 && states["done"] == p.count, "%d done, %d dead", states["done"], states["dead"])
	if !p.hard { // who is suspected of a crash waits too
		b.expect(last.T < dead.T, "the last of the others was done %v before it was dead", time.Duration(dead.T-last.T).Round(time.Millisecond))
	}
	deliveries, others := 0, 0
	for _, c := range b.children {
		got, err := events(b, c, "deliver")
		if err != nil {
			return err
		}
		for _, e := range got {
			if e.Seq == dead.Seq {
				deliveries++
			} else {
				others++
			}
		}
	}
	if p.hard { // a crash among others is nobody's fault for sure: only those alone with it count
		b.expect(deliveries >= p.deliveries && deliveries <= 2*p.deliveries, "the poison was delivered %d times, at most %d of them count", deliveries, p.deliveries)
		return nil
	}
	b.expect(deliveries == p.deliveries, "the poison was delivered %d times", deliveries)
	b.expect(others == p.count, "the other %d messages were delivered %d times", p.count, others)
	return nil
}

// replay brings the dead letter back to a puller that can handle it.
func (p poisoning) replay(ctx context.Context, b *bed, store, addr string) error {
	letters, err := b.ask(ctx, "dlq", "peek", queue, "--body", "--dir", store)
	if err != nil {
		return err
	}
	b.expect(strings.Contains(letters, poison), "dlq peek shows it")
	if _, err := b.ask(ctx, "dlq", "replay", queue, "--dir", store); err != nil {
		return err
	}
	puller, err := b.start(history.Life{Role: "pull", Store: b.path("pull")}, queue, "--listen", addr)
	if err != nil {
		return err
	}
	forward, err := b.start(history.Life{Role: "forward", Store: store}, "--peer", addr)
	if err != nil {
		return err
	}
	if err := errors.Join(forward.finish(ctx, 0), puller.stop(ctx)); err != nil {
		return err
	}
	got, err := events(b, puller, "deliver")
	if err != nil {
		return err
	}
	b.expect(len(got) == 1, "replayed, the poison came %d times", len(got))
	return nil
}

// shown is what scenarios read of an event.
type shown struct {
	T       int64  `json:"t"`
	Event   string `json:"event"`
	N       uint64 `json:"n"`
	Seq     uint64 `json:"seq"`
	State   string `json:"state"`
	Code    string `json:"code"`
	Outcome string `json:"outcome"`
	Def     bool   `json:"definite"`
}

// events reads the events of one kind that a process has printed. It is for short logs.
func events(b *bed, c *child, kind string) (found []shown, err error) {
	f, err := os.Open(b.path(c.name + ".json"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var e shown
		if err := json.Unmarshal(s.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		if e.Event == kind {
			found = append(found, e)
		}
	}
	return found, nil
}
