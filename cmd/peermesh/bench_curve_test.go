package main

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func quietly(string, ...any) {}

func TestStepsEndWithTheMost(t *testing.T) {
	for _, c := range []struct {
		first, most, times int
		want               []int
	}{
		{4, 256, 4, []int{4, 16, 64, 256}},
		{4, 100, 4, []int{4, 16, 64, 100}},
		{4, 2, 4, []int{2}},
		{10_000, 10_000, 10, []int{10_000}},
		{10_000, 10_000_000, 10, []int{10_000, 100_000, 1_000_000, 10_000_000}},
	} {
		if got := steps(c.first, c.most, c.times); !slices.Equal(got, c.want) {
			t.Errorf("%d to %d: %v, want %v", c.first, c.most, got, c.want)
		}
	}
}

func TestACurveComparesWithOnePeerInTheSameRound(t *testing.T) {
	p := pointOf(4, []*contender{
		{name: progPeermesh, n: 1, bursts: []float64{8, 80, 60}},
		{name: progQUIC, n: 1, bursts: []float64{30, 300, 150}},
		{name: progPeermesh, n: 1, bursts: []float64{10, 100, 50}},
		{name: progQUIC, n: 1, bursts: []float64{20, 200, 100}},
	})
	if want := (spread{0.8, 0.8, 1.2}); *p.Programs[0].ToOne != want {
		t.Errorf("peermesh to one peer: %+v, want %+v: the drift of the machine is in it", *p.Programs[0].ToOne, want)
	}
	if want := (spread{1.5, 1.5, 1.5}); *p.Programs[1].ToOne != want {
		t.Errorf("QUIC to one peer: %+v, want %+v", *p.Programs[1].ToOne, want)
	}
	own, raw := *p.Programs[0].ToOne, *p.Programs[1].ToOne
	if want := (spread{own.Median / raw.Median, own.Min / raw.Min, own.Max / raw.Max}); *p.Quotient != want {
		t.Errorf("quotient %+v, want %+v", *p.Quotient, want)
	}
	if p.Peers != 4 || p.Programs[1].Ratio == nil || p.Programs[0].Ratio != nil {
		t.Errorf("%+v", p)
	}
}

func TestACurveOfPeersMeasuresEachStep(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	c := peerCurve{size: 100, most: 5, rounds: testRounds, count: 1000, start: nearChild, note: quietly}
	e, err := c.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var peers []int
	for _, p := range e.Points {
		peers = append(peers, p.Peers)
		if len(p.Programs) != 2 || p.Programs[0].Name != progPeermesh || p.Programs[1].Name != progQUIC {
			t.Fatalf("%d peers: %+v", p.Peers, p.Programs)
		}
		for _, f := range p.Programs {
			if f.PerSecond.Median <= 0 || f.SendMemory <= 0 || f.ReceiveMemory <= 0 || (f.ToOne != nil) != (p.Peers > 1) {
				t.Errorf("%d peers, %s: %+v", p.Peers, f.Name, f)
			}
		}
		if (p.Quotient != nil) != (p.Peers > 1) {
			t.Errorf("%d peers: quotient %v", p.Peers, p.Quotient)
		}
	}
	if want := []int{1, 4, 5}; !slices.Equal(peers, want) {
		t.Errorf("peers %v, want %v", peers, want)
	}
}

func TestACurveOfMessagesThatWaitMeasuresEachLevel(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	dir := t.TempDir()
	c := waitCurve{size: 100, least: 50, most: 500, chunk: 200, rounds: 2, dir: dir, start: nearChild, note: quietly}
	e, err := c.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(e.Points) != 2 || e.Points[0].Waiting != 50 || e.Points[1].Waiting != 500 || e.Disk != dir {
		t.Fatalf("%+v", e)
	}
	for _, p := range e.Points {
		for name, s := range map[string]*spread{"sent": p.Send, "drained": p.Drain, "sent, to the least": p.SendShare, "drained, to the least": p.DrainShare,
			"memory of the sender": p.SendPeak, "memory of the receiver": p.RecvPeak} {
			if s == nil || s.Min <= 0 {
				t.Errorf("%d waiting, %s: %+v", p.Waiting, name, s)
			}
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestWhatAMessageThatWaitsTakesIsTheSlopeFromTheLeastToTheMost(t *testing.T) {
	var e waitCurveEvent
	e.fill([]int{10, 100, 1010}, []waitLevel{
		{send: []float64{10, 20}, drain: []float64{1, 1}, sendPeak: []float64{5000, 5000}, recvPeak: []float64{70, 70}},
		{send: []float64{5, 20}, drain: []float64{2, 2}, sendPeak: []float64{9000, 9000}, recvPeak: []float64{70, 70}},
		{send: []float64{5, 30}, drain: []float64{3, 3}, sendPeak: []float64{7000, 7000}, recvPeak: []float64{70, 70}},
	})
	if e.SendSlope != 2 || e.RecvSlope != 0 {
		t.Errorf("slopes %v and %v, want 2 and 0", e.SendSlope, e.RecvSlope)
	}
	if want := (spread{1.5, 0.5, 1.5}); *e.Points[2].SendShare != want {
		t.Errorf("share %+v, want %+v", *e.Points[2].SendShare, want)
	}
	e = waitCurveEvent{}
	e.fill([]int{10}, []waitLevel{{send: []float64{1}, drain: []float64{1}, sendPeak: []float64{1}, recvPeak: []float64{1}}})
	if e.SendSlope != 0 || e.RecvSlope != 0 {
		t.Errorf("slopes of one level: %v and %v", e.SendSlope, e.RecvSlope)
	}
}

func TestACurveEndsWithItsContextAndLeavesNothingBehind(t *testing.T) {
	enough := errors.New("enough")
	for name, run := range map[string]func(context.Context, func(context.Context) (*benchChild, error), string) error{
		"peers": func(ctx context.Context, start func(context.Context) (*benchChild, error), _ string) error {
			c := peerCurve{size: 100, most: 2, rounds: 1, duration: time.Hour, start: start, note: quietly}
			_, err := c.run(ctx)
			return err
		},
		"waiting": func(ctx context.Context, start func(context.Context) (*benchChild, error), dir string) error {
			c := waitCurve{size: 100, least: 1, most: maxWaiting, chunk: maxChunk, rounds: 1, dir: dir, start: start, note: quietly}
			_, err := c.run(ctx)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			dir := t.TempDir()
			err := run(ctx, func(ctx context.Context) (*benchChild, error) {
				o, err := nearChild(ctx)
				o.in = &trip{o.in, func(order string) {
					if strings.Contains(order, doBurst) {
						cancel(enough)
					}
				}}
				return o, err
			}, dir)
			if !errors.Is(err, enough) {
				t.Errorf("ended with %v", err)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

func TestCurvesAreHeldToWhatCanBeMeasured(t *testing.T) {
	peers := peerCurve{size: 100, most: 256, rounds: 5, duration: time.Second}
	for name, c := range map[string]struct {
		change func(*peerCurve)
		ok     bool
	}{
		"the defaults":       {func(*peerCurve) {}, true},
		"one peer alone":     {func(c *peerCurve) { c.most = 1 }, false},
		"a crowd":            {func(c *peerCurve) { c.most = maxSubscribers + 1 }, false},
		"no rounds":          {func(c *peerCurve) { c.rounds = 0 }, false},
		"no time":            {func(c *peerCurve) { c.duration = 0 }, false},
		"a count":            {func(c *peerCurve) { c.count, c.duration = 1, 0 }, true},
		"a negative count":   {func(c *peerCurve) { c.count = -1 }, false},
		"no size":            {func(c *peerCurve) { c.size = 0 }, false},
		"too large for QUIC": {func(c *peerCurve) { c.size = 1 << 20 }, false},
	} {
		p := peers
		c.change(&p)
		if err := p.check(); (err == nil) != c.ok || err != nil && exitCode(err) != exitUsage {
			t.Errorf("peers, %s: %v", name, err)
		}
	}
	waiting := waitCurve{size: 100, least: 10_000, most: maxWaiting, chunk: 1000, rounds: 3}
	for name, c := range map[string]struct {
		change func(*waitCurve)
		ok     bool
	}{
		"the defaults":              {func(*waitCurve) {}, true},
		"one level":                 {func(c *waitCurve) { c.most = c.least }, true},
		"less than the least":       {func(c *waitCurve) { c.most = c.least - 1 }, false},
		"none":                      {func(c *waitCurve) { c.least = 0 }, false},
		"more than a disk should":   {func(c *waitCurve) { c.most = maxWaiting + 1 }, false},
		"rates of nothing":          {func(c *waitCurve) { c.chunk = 0 }, false},
		"rates of more than levels": {func(c *waitCurve) { c.chunk = maxChunk + 1 }, false},
		"no rounds":                 {func(c *waitCurve) { c.rounds = 0 }, false},
		"a large size":              {func(c *waitCurve) { c.size = 1<<10 + 1 }, false},
	} {
		w := waiting
		c.change(&w)
		if err := w.check(); (err == nil) != c.ok || err != nil && exitCode(err) != exitUsage {
			t.Errorf("waiting, %s: %v", name, err)
		}
	}
}
