package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"peermesh/spool"
)

// nearChild is a child of a bench in this process.
func nearChild(ctx context.Context) (*benchChild, error) {
	in, orders := io.Pipe()
	reports, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := beBenchChild(ctx, in, out)
		in.CloseWithError(io.ErrClosedPipe)
		out.CloseWithError(io.ErrUnexpectedEOF)
		ended <- err
	}()
	return &benchChild{in: orders, out: json.NewDecoder(reports), wait: func() error { return <-ended }}, nil
}

const testRounds = 3

// quietBench is a bench of some messages a round whose children are this process.
func quietBench(workload string, count int) *bench {
	return &bench{start: nearChild, note: func(string, ...any) {}, plan: benchPlan{workload: workload, size: 100,
		subscribers: 1, concurrency: 2, rounds: testRounds, limit: limit{count: count}, reference: true}}
}

// names are the programs of a result.
func names(r *benchResult) (all []string) {
	for _, f := range r.programs {
		all = append(all, f.Name)
	}
	return all
}

func TestBenchMeasuresEachWorkloadAndTheReferences(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*benchPlan)
		want   []string
	}{
		{workPush, func(*benchPlan) {}, []string{progPeermesh, progQUIC, progTLS, progUDP}},
		{workPush, func(p *benchPlan) { p.size = 64 << 10 }, []string{progPeermesh, progQUIC, progTLS}},
		{workPub, func(p *benchPlan) { p.subscribers, p.plainSocket = 3, true }, []string{progPeermesh, progPlainSocket, progQUIC, progTLS}},
		{workReq, func(*benchPlan) {}, []string{progPeermesh, progQUIC, progTLS}},
		{workReq, func(p *benchPlan) { p.concurrency = 1 }, []string{progPeermesh, progQUIC, progTLS, progUDP}},
		{workReq, func(p *benchPlan) { p.reference = false }, []string{progPeermesh}},
	} {
		t.Run(c.name, func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			b := quietBench(c.name, 50)
			c.change(&b.plan)
			r, err := b.run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got := names(r); !slices.Equal(got, c.want) {
				t.Fatalf("programs: %v, want %v", got, c.want)
			}
			copies := b.plan.subscribers
			e := r.event(&b.plan)
			if want := testRounds * 50 * copies; e.Messages != want {
				t.Errorf("%d messages counted, want %d", e.Messages, want)
			}
			for name, got := range map[string]float64{"msgs_per_s": e.PerSecond, "bytes_per_s": e.Bytes, "p50_us": e.P50, "p99_us": e.P99,
				"p999_us": e.P999, "cores": float64(e.Cores), "rounds": float64(e.Rounds)} {
				if got <= 0 {
					t.Errorf("%s is %v", name, got)
				}
			}
			if e.P50 > e.P99 || e.P99 > e.P999 {
				t.Errorf("percentiles fall: %v, %v, %v", e.P50, e.P99, e.P999)
			}
			if want := max(50/4, 1) * testRounds * copies; r.latency.n != uint64(want) {
				t.Errorf("%d latencies, want %d", r.latency.n, want)
			}
			for i, f := range r.programs {
				if f.PerSecond.Median <= 0 || f.PerSecond.Min > f.PerSecond.Median || f.PerSecond.Median > f.PerSecond.Max {
					t.Errorf("%s: %+v messages a second", f.Name, *f.PerSecond)
				}
				if (f.Ratio != nil) != (i > 0) || (f.Single != nil) != (c.name == workReq) || (f.SingleRatio != nil) != (i > 0 && c.name == workReq) {
					t.Errorf("%s: %+v", f.Name, f)
				}
			}
			if (e.Ratio > 0) != b.plan.reference || (e.Reference != nil) != b.plan.reference || (e.Valid != nil) != b.plan.reference {
				t.Errorf("ratio %v to %v, %v", e.Ratio, e.Reference, e.Valid)
			}
			if b.plan.reference && (e.Valid.Ratio.Median <= 0 || e.Valid.OK != (e.Valid.Ratio.Median >= leastQUIC)) {
				t.Errorf("verdict: %+v", *e.Valid)
			}
		})
	}
}

// trip tells what is written.
type trip struct {
	io.WriteCloser
	tell func(string)
}

func (w *trip) Write(b []byte) (int, error) {
	w.tell(string(b))
	return w.WriteCloser.Write(b)
}

func TestBenchOfDurableMessagesMeasuresTheLogAndMemoryToo(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	b := quietBench(workDurable, 500)
	b.plan.dir, b.plan.plainSocket = t.TempDir(), true
	r, err := b.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := names(r), []string{progPeermesh, progPlainSocket, progWAL, progPlainFile, progMemory}; !slices.Equal(got, want) {
		t.Fatalf("programs: %v, want %v", got, want)
	}
	e := r.event(&b.plan)
	if r.n != testRounds*500 || r.latency.n != 500/4*testRounds {
		t.Errorf("%d messages, %d latencies", r.n, r.latency.n)
	}
	slower := min(e.Reference.WAL, e.Reference.Memory)
	if slower <= 0 || e.Reference.PerSecond != slower || e.Ratio != r.programs[r.against(&b.plan)].Ratio.Median || e.Disk != b.plan.dir || e.Cores == 0 {
		t.Errorf("%+v, reference %+v", e, *e.Reference)
	}
	if e.One.P50 <= 0 || e.One.WALP50 <= 0 || e.One.WALRatio != r.programs[2].SingleRatio.Median {
		t.Errorf("one sender: %+v", *e.One)
	}
	if plain := b.programs[1]; plain.sender.Dir == "" || plain.receiver.Dir == "" || plain.sender.Dir == b.programs[0].sender.Dir {
		t.Errorf("on a plain socket it would keep nothing, or share its disk: %+v", plain.sender)
	}
	if v := e.Valid; v == nil || v.Least != leastWAL || v.Ratio.Median <= 0 {
		t.Errorf("verdict: %+v", v)
	}
	if left, err := os.ReadDir(b.plan.dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestBenchOfDurableMessagesNeedsADirectoryItMayUse(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	b := quietBench(workDurable, 1)
	b.plan.dir = filepath.Join(t.TempDir(), "file", "below")
	if err := os.WriteFile(filepath.Dir(b.plan.dir), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.run(t.Context()); err == nil {
		t.Error("it measured something")
	}
}

func TestTheKeyOfTheSpoolGoesWhereThereIsADisk(t *testing.T) {
	p := benchPlan{workload: workDurable, spoolKey: "key", spool: spool.ProfileEdge, plainSocket: true, reference: true}
	for _, c := range p.lineUp("dir") {
		want := ""
		if c.name == progPeermesh || c.name == progPlainSocket {
			want = "key"
		}
		if c.sender.SpoolKey != want || c.receiver.SpoolKey != want {
			t.Errorf("%s: keys %q and %q, want %q", c.name, c.sender.SpoolKey, c.receiver.SpoolKey, want)
		}
		if edge := want != ""; (c.sender.Spool == spool.ProfileEdge) != edge || (c.receiver.Spool == spool.ProfileEdge) != edge {
			t.Errorf("%s: profiles %v and %v", c.name, c.sender.Spool, c.receiver.Spool)
		}
	}
}

func TestRatiosAreThoseOfOneRound(t *testing.T) {
	own := &contender{name: progPeermesh, n: 3e6, bursts: []float64{10, 40, 90}, sendCPU: 6 * time.Second, receiveCPU: 3 * time.Second}
	raw := &contender{name: progQUIC, n: 1e6, bursts: []float64{20, 50, 100}, yards: []float64{29, 60, 80}}
	tls := &contender{name: progTLS, n: 1e6, bursts: []float64{1, 1, 1}, yards: []float64{100, 200, 300}}
	f := raw.figures(own)
	if want := (spread{0.8, 0.5, 0.9}); *f.Ratio != want {
		t.Errorf("ratio %+v, want %+v: the drift of the machine is in it", *f.Ratio, want)
	}
	if want := (spread{40, 10, 90}); *own.figures(own).PerSecond != want || own.figures(own).SendCPU != 2 || own.figures(own).ReceiveCPU != 1 {
		t.Errorf("own: %+v", own.figures(own))
	}
	for _, c := range []struct {
		yards []float64
		ok    bool
	}{{[]float64{29, 58, 87}, false}, {[]float64{10, 60, 90}, true}} {
		raw.yards = c.yards
		if v := judge([]*contender{own, raw, tls}); v.OK != c.ok {
			t.Errorf("QUIC %v to TLS %v: verdict %+v", raw.yards, tls.yards, *v)
		}
	}
	wal := &contender{name: progWAL, n: 1, bursts: []float64{79, 79, 79}}
	plain := &contender{name: progPlainFile, n: 1, bursts: []float64{100, 100, 100}}
	if v := judge([]*contender{own, wal, plain}); v.OK || v.Ratio.Median != 0.79 {
		t.Errorf("a log of 0.79 of a plain file: %+v", *v)
	}
	wal.bursts = []float64{80, 80, 80}
	if v := judge([]*contender{own, wal, plain}); !v.OK {
		t.Errorf("a log of 0.8 of a plain file: %+v", *v)
	}
	if judge([]*contender{own}) != nil {
		t.Error("a verdict without references")
	}
}

func TestARunThatIsNotToBeBelievedSaysSo(t *testing.T) {
	var out bytes.Buffer
	a := newApp(nil, &out, io.Discard, nil)
	p := benchPlan{workload: workPush, size: 100, rounds: 1}
	r := &benchResult{programs: []figures{{Name: progPeermesh, PerSecond: &spread{1, 1, 1}}}, verdict: &verdict{What: "this", Ratio: spread{Median: 0.1}, Least: 0.3}}
	for range 2 {
		if err := a.printPrograms(&p, r); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Count(out.String(), "not to be believed: this is 0.10"); got != 2 {
		t.Errorf("said %d times of 2:\n%s", got, &out)
	}
	if strings.Count(out.String(), "workload ") != 1 {
		t.Errorf("one table has one head:\n%s", &out)
	}
}

func TestBenchEndsWithItsContextAndLeavesNothingBehind(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	ctx, cancel := context.WithCancelCause(t.Context())
	b := quietBench(workPush, 0)
	b.plan.limit = limit{d: time.Hour}
	enough := errors.New("enough")
	b.start = func(ctx context.Context) (*benchChild, error) {
		o, err := nearChild(ctx)
		o.in = &trip{o.in, func(order string) {
			if strings.Contains(order, doBurst) { // the first one
				cancel(enough)
			}
		}}
		return o, err
	}
	if _, err := b.run(ctx); !errors.Is(err, enough) {
		t.Errorf("ended with %v", err)
	}
}

func TestBenchTellsWhatIsWrongWithAChild(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	b := quietBench(workPush, 1)
	b.start = func(context.Context) (*benchChild, error) { return nil, errors.New("no such file") }
	if _, err := b.run(t.Context()); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("a child that cannot be started: %v", err)
	}
	for name, orders := range map[string]string{
		"no role":             ``,
		"an unknown role":     `{"role":"juggler","nodes":1,"mesh":""}`,
		"nonsense":            `role`,
		"a mesh that is none": `{"role":"quic","mesh":"x"}`,
		"nobody to send to":   `{"role":"udp"}`,
		"no place for a file": `{"role":"wal","dir":"/dev/null/none"}`,
		"an order that is no": `{"role":"udp-server","nodes":1} 7`,
	} {
		var out bytes.Buffer
		if err := beBenchChild(t.Context(), strings.NewReader(orders), &out); err == nil {
			t.Errorf("%s: went well, and said %q", name, out.String())
		}
	}
}

func TestAChildSaysWhatItCannotDo(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	c, err := nearChild(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.ask(benchRole{Role: roleUDPServer, Nodes: 1}); err != nil {
		t.Fatal(err)
	}
	for _, do := range []string{doBurst, doPaced, doSingle, doYardstick, "juggle"} {
		if _, err := c.ask(benchOrder{Do: do, N: 1}); err == nil {
			t.Errorf("a receiver has done this: %s", do)
		}
	}
	if err := c.end(); err != nil {
		t.Error(err)
	}
}

func TestSharesOfALimitAddUpToIt(t *testing.T) {
	for _, count := range []int{1, 7, 8, 100} {
		for _, of := range []int{1, 2, 8} {
			sum := 0
			for i := range of {
				s := limit{count: count, d: time.Second}.share(i, of)
				more, sent := s.begin(3), 0
				for n := more(0); n > 0; n = more(sent) {
					if n > 3 {
						t.Fatalf("%d at a time, want at most 3", n)
					}
					sent += n
				}
				sum += sent
			}
			if sum != count {
				t.Errorf("%d shared by %d: %d", count, of, sum)
			}
		}
	}
}

func TestALimitOfTimeEndsWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		more := limit{d: time.Minute}.share(0, 2).begin(5)
		for i, want := range []int{5, 5, 0} {
			if got := more(i); got != want {
				t.Errorf("after %d half minutes %d more, want %d", i, got, want)
			}
			time.Sleep(30 * time.Second)
		}
	})
}

func TestBenchFlagsAreHeldToWhatCanBeMeasured(t *testing.T) {
	good := benchFlags{size: 100, duration: time.Second, rounds: 5, subscribers: 1, concurrency: 1}
	for name, c := range map[string]struct {
		workload string
		change   func(*benchFlags)
		ok       bool
	}{
		"the defaults":                 {"push", func(*benchFlags) {}, true},
		"no room for the time":         {"push", func(f *benchFlags) { f.size = stampSize - 1 }, false},
		"an empty request":             {"req", func(f *benchFlags) { f.size = 0 }, true},
		"negative":                     {"req", func(f *benchFlags) { f.size = -1 }, false},
		"large":                        {"push", func(f *benchFlags) { f.size = 8 << 20 }, true},
		"too large":                    {"push", func(f *benchFlags) { f.size = 8<<20 + 1 }, false},
		"too large for the reference":  {"push", func(f *benchFlags) { f.size, f.reference = 1<<20, true }, false},
		"a count instead of a time":    {"push", func(f *benchFlags) { f.count, f.duration = 10, 0 }, true},
		"neither count nor time":       {"push", func(f *benchFlags) { f.duration = 0 }, false},
		"a negative count":             {"push", func(f *benchFlags) { f.count = -1 }, false},
		"no rounds":                    {"push", func(f *benchFlags) { f.rounds = 0 }, false},
		"rounds without end":           {"push", func(f *benchFlags) { f.rounds = maxRounds + 1 }, false},
		"nobody sends":                 {"push", func(f *benchFlags) { f.concurrency = 0 }, false},
		"a crowd sends":                {"req", func(f *benchFlags) { f.concurrency = maxConcurrency + 1 }, false},
		"nobody listens":               {"pub", func(f *benchFlags) { f.subscribers = 0 }, false},
		"more listeners than it takes": {"pub", func(f *benchFlags) { f.subscribers = maxSubscribers + 1 }, false},
	} {
		f := good
		c.change(&f)
		if _, err := f.plan(c.workload); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		} else if err != nil && exitCode(err) != exitUsage {
			t.Errorf("%s: exit code %d", name, exitCode(err))
		}
	}
}

func TestUsageIsThatOfThisProcess(t *testing.T) {
	before := usageNow()
	sum := 0
	for i := range 50_000_000 {
		sum += i * i
	}
	after := usageNow()
	if before.Memory < 1<<20 || after.CPU <= before.CPU || sum == 0 {
		t.Errorf("used %+v, and after some work %+v", before, after)
	}
}
