package main

import (
	"context"
	"errors"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"peermesh/node"
	"peermesh/node/reference"
	"peermesh/spool"
)

// benchFlags are the flags of every workload.
type benchFlags struct {
	size        int
	count       int
	duration    time.Duration
	rounds      int
	subscribers int
	concurrency int
	reference   bool
	plainSocket bool
	profile     string
	spool       string // profile of it
}

// benchCommand is "bench" with its workloads.
func benchCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "bench",
		GroupID: groupSee,
		Short:   "Measure throughput, latency and cost on this machine",
		Long: `Measure with two processes on this machine, which meet over loopback in a mesh of
their own: no other node is bothered, and --mesh, --peer and the like play no part.
As on any host they meet at a Unix socket; with --udp-only they talk QUIC. --poll counts, and --stripes with --udp-only.
Messages are kept in memory, those of durable on disk, and counted when their receiver
has acknowledged them.

The run has --rounds rounds as fast as it goes, and as many for latency: messages at half
that speed, from the call of Send to the handler; requests one at a time, to their
answer. One more goes before each that does not count. Figures are medians of the rounds.

A machine's speed drifts. With --reference other programs do the same in turns, in
processes of their own, and what means something are the ratios of one round: raw QUIC
and TLS over TCP with messages of the same framing and no acknowledgements, UDP where a
message fits a datagram; for requests the same multiplexed on one stream. Durable
messages are held against a plain write-ahead log of the same bytes on the same disk and
against messages kept in memory, the ratio is to the slower of the two. A run in which
raw QUIC is less than 0.3 of TLS at 100 bytes, or the log less than 0.8 of a plain file,
was disturbed, and says so.`,
		Example: `  peermesh bench push --size 100 --reference
  peermesh bench pub --subscribers 5
  peermesh bench req --concurrency 64 --json
  peermesh bench durable --reference --dir /var/tmp
  peermesh bench all`,
		Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("there is no workload %q; give push, pub, req, durable, idle, curve or all", args[0])
			}
			return usagef("give push, pub, req, durable, idle, curve or all")
		},
	}
	cmd.AddCommand(workloadCommand(a, workPush, "Messages from one sender to one puller"))
	cmd.AddCommand(workloadCommand(a, workPub, "Messages from one publisher to subscribers; each copy counts"))
	cmd.AddCommand(workloadCommand(a, workReq, "Requests and their answers"))
	cmd.AddCommand(workloadCommand(a, workDurable, "Messages from disk to disk: below --dir, or among the temporary files"))
	cmd.AddCommand(benchIdleCommand(a))
	cmd.AddCommand(benchCurveCommand(a))
	cmd.AddCommand(benchAllCommand(a))
	cmd.AddCommand(benchChildCommand(a))
	return cmd
}

func workloadCommand(a *app, workload, short string) *cobra.Command {
	var b benchFlags
	cmd := &cobra.Command{
		Use:   workload,
		Short: short,
		Args:  arguments(0, 0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			plan, err := b.plan(workload)
			if err != nil {
				return err
			}
			plan.dir, plan.spoolKey, plan.udpOnly = a.global.dir, a.global.spoolKey, a.global.udpOnly || plan.plainSocket
			plan.poll, plan.stripes = a.global.poll, a.global.stripes
			return a.bench(cmd.Context(), a.printBench, plan)
		},
	}
	f := cmd.Flags()
	size := 100
	if workload == workReq {
		size = 64
	}
	f.IntVar(&b.size, "size", size, "`bytes` of a message")
	f.IntVar(&b.count, "count", 0, "`N` messages in all, whatever time they take")
	f.IntVar(&b.concurrency, "concurrency", 1, "`N` at a time: callers of Send, or requests")
	b.subscribers = 1
	if workload == workPub {
		f.IntVar(&b.subscribers, "subscribers", 1, "`N` subscribers, each a node of its own")
	}
	if workload == workDurable {
		f.StringVar(&b.spool, "spool-profile", spool.ProfileAuto.String(), "for which machine spools are sized: auto, server or edge")
	}
	f.BoolVar(&b.reference, "reference", false, "measure what it can be held against too, in turns")
	b.shared(cmd, 5*time.Second)
	return cmd
}

// shared adds the flags that "bench all" has too.
func (b *benchFlags) shared(cmd *cobra.Command, d time.Duration) {
	f := cmd.Flags()
	f.DurationVar(&b.duration, "duration", d, "time for messages as fast as they go, of each program, if there is no count")
	f.IntVar(&b.rounds, "rounds", 5, "`N` rounds that count")
	f.StringVar(&b.profile, "profile", "", "leave CPU profiles of all processes in the `directory`")
	f.BoolVar(&b.plainSocket, "plain-socket", false, "measure with --udp-only, and nodes too that read packets one by one, as raw QUIC does")
}

// benchAllCommand measures what docs/PERFORMANCE.md tells of.
func benchAllCommand(a *app) *cobra.Command {
	var b benchFlags
	cmd := &cobra.Command{
		Use:   "all",
		Short: "Every workload beside its references, as one table; takes some minutes",
		Args:  arguments(0, 0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var plans []benchPlan
			for _, s := range standard {
				f := b
				f.size, f.subscribers, f.concurrency, f.reference = s.size, s.subscribers, s.concurrency, true
				plan, err := f.plan(s.workload)
				if err != nil {
					return err
				}
				plan.dir, plan.spoolKey, plan.udpOnly = a.global.dir, a.global.spoolKey, a.global.udpOnly
				plan.poll, plan.stripes = a.global.poll, a.global.stripes
				plans = append(plans, plan)
			}
			return a.bench(cmd.Context(), a.printPrograms, plans...)
		},
	}
	b.shared(cmd, 2500*time.Millisecond)
	return cmd
}

// standard are the workloads of the table.
var standard = []struct {
	workload                       string
	size, subscribers, concurrency int
}{
	{workPush, 16, 1, 1},
	{workPush, 100, 1, 1},
	{workPush, 1 << 10, 1, 1},
	{workPush, 64 << 10, 1, 1},
	{workPub, 100, 16, 1},
	{workReq, 64, 1, 1},
	{workReq, 64, 1, 64},
	{workReq, 64, 1, 4096},
	{workDurable, 100, 1, 1},
}

const (
	maxConcurrency = 1 << 14
	maxSubscribers = 256
	maxRounds      = 1000
)

// plan checks the flags.
func (b *benchFlags) plan(workload string) (benchPlan, error) {
	least, most := 0, node.DefaultMaxMessage
	if workload != workReq {
		least = stampSize
	}
	if b.reference && workload != workDurable {
		most = reference.MaxBody
	}
	p := benchPlan{workload: workload, size: b.size, subscribers: b.subscribers, concurrency: b.concurrency, rounds: b.rounds,
		reference: b.reference, plainSocket: b.plainSocket, profile: b.profile}
	switch {
	case b.size < least || b.size > most:
		return p, usagef("--size %d: %d to %d bytes", b.size, least, most)
	case b.count < 0:
		return p, usagef("--count %d is negative; give 0 or more", b.count)
	case b.rounds < 1 || b.rounds > maxRounds:
		return p, usagef("--rounds %d: 1 to %d", b.rounds, maxRounds)
	case b.count == 0 && b.duration < time.Millisecond:
		return p, usagef("--duration %v: at least 1ms", b.duration)
	case b.concurrency < 1 || b.concurrency > maxConcurrency:
		return p, usagef("--concurrency %d: 1 to %d", b.concurrency, maxConcurrency)
	case b.subscribers < 1 || b.subscribers > maxSubscribers:
		return p, usagef("--subscribers %d: 1 to %d", b.subscribers, maxSubscribers)
	}
	p.limit = oneOf(b.rounds, b.count, b.duration)
	var err error
	p.spool, err = profileOf(b.spool)
	return p, err
}

// oneOf is the limit of a burst in one of so many rounds, which have count messages or, without a count, time d.
func oneOf(rounds, count int, d time.Duration) limit {
	if count > 0 {
		return limit{count: (count + rounds - 1) / rounds}
	}
	return limit{d: d / time.Duration(rounds)}
}

// bench runs plans one after the other and prints what each has found.
func (a *app) bench(ctx context.Context, show func(*benchPlan, *benchResult) error, plans ...benchPlan) error {
	ctx, stop := a.benchTime(ctx)
	defer stop()
	for _, plan := range plans {
		b := &bench{plan: plan, start: a.startBenchChild, note: a.note}
		r, err := b.run(ctx)
		if err != nil {
			return a.benchEnded(err)
		}
		a.events.emit("bench", r.event(&plan))
		if a.events != nil {
			continue
		}
		if err := show(&plan, r); err != nil {
			return err
		}
	}
	return nil
}

// benchTime is ctx until --timeout is over.
func (a *app) benchTime(ctx context.Context) (context.Context, context.CancelFunc) {
	if d := a.global.timeout; d > 0 {
		return context.WithTimeoutCause(ctx, time.Until(a.began.Add(d)), errTimeout)
	}
	return ctx, func() {}
}

// benchEnded says why a bench ended before it was over.
func (a *app) benchEnded(err error) error {
	switch {
	case errors.Is(err, errTimeout):
		return failf(exitTimeout, "%v is over and the bench is not; --timeout allows more", a.global.timeout)
	case errors.Is(err, context.Canceled):
		return failf(exitFailed, "told to leave before the bench was over")
	}
	return err
}

// benchEvent is the contract's.
type benchEvent struct {
	Workload    string          `json:"workload"`
	Size        int             `json:"size"`
	PerSecond   float64         `json:"msgs_per_s"`
	Bytes       float64         `json:"bytes_per_s"`
	P50         float64         `json:"p50_us"`
	P99         float64         `json:"p99_us"`
	P999        float64         `json:"p999_us"`
	CPU         float64         `json:"cpu_s_per_m"` // of both processes, for a million messages
	Memory      int64           `json:"rss_peak"`    // bytes, of both processes
	Cores       int             `json:"cores"`       // of the machine, as far as this process may use them
	Reference   *referenceEvent `json:"reference,omitempty"`
	Ratio       float64         `json:"ratio,omitempty"` // to the reference, median of the rounds: of msgs_per_s, for req of p50_us
	Messages    int             `json:"messages"`
	Senders     int             `json:"concurrency"`
	Subscribers int             `json:"subscribers,omitempty"`
	Disk        string          `json:"disk,omitempty"`       // of durable: where it wrote
	One         *oneSenderEvent `json:"one_sender,omitempty"` // of durable: one that waits for the disk each time
	Rounds      int             `json:"rounds"`
	Programs    []figures       `json:"programs"` // the measured one first
	Valid       *verdict        `json:"valid,omitempty"`
}

// oneSenderEvent is how long a sender waits for the disk that sends one message at a time.
type oneSenderEvent struct {
	P50      float64 `json:"p50_us"`
	P99      float64 `json:"p99_us"`
	WALP50   float64 `json:"wal_p50_us,omitempty"`
	WALP99   float64 `json:"wal_p99_us,omitempty"`
	WALRatio float64 `json:"ratio,omitempty"` // of the p50
}

// referenceEvent is what the reference did in the same run: of durable the slower one.
type referenceEvent struct {
	WAL       float64 `json:"wal_msgs_per_s,omitempty"`
	Memory    float64 `json:"memory_msgs_per_s,omitempty"`
	PerSecond float64 `json:"msgs_per_s,omitempty"`
	Bytes     float64 `json:"bytes_per_s,omitempty"`
	P50       float64 `json:"p50_us,omitempty"`
	P99       float64 `json:"p99_us,omitempty"`
}

func (r *benchResult) event(p *benchPlan) benchEvent {
	own := r.programs[0]
	e := benchEvent{Workload: p.workload, Size: p.size, PerSecond: own.PerSecond.Median, Bytes: own.PerSecond.Median * float64(p.size),
		P50: r.p50, P99: r.p99, P999: r.p999, CPU: own.SendCPU + own.ReceiveCPU, Memory: own.SendMemory + own.ReceiveMemory,
		Cores: runtime.GOMAXPROCS(0), Messages: r.n, Senders: p.concurrency, Rounds: p.rounds, Programs: r.programs, Valid: r.verdict}
	if p.workload == workPub {
		e.Subscribers = p.subscribers
	}
	if p.workload == workDurable {
		e.Disk, e.One = p.disk(), &oneSenderEvent{P50: own.Single.Median, P99: own.SingleSlow.Median}
	}
	i := r.against(p)
	if i < 0 {
		return e
	}
	ref := r.programs[i]
	e.Reference, e.Ratio = &referenceEvent{PerSecond: ref.PerSecond.Median, Bytes: ref.PerSecond.Median * float64(p.size)}, ref.Ratio.Median
	if p.workload == workReq {
		e.Reference.P50, e.Reference.P99, e.Ratio = ref.Single.Median, ref.SingleSlow.Median, ref.SingleRatio.Median
	}
	for _, f := range r.programs {
		switch f.Name {
		case progWAL:
			e.Reference.WAL = f.PerSecond.Median
			e.One.WALP50, e.One.WALP99, e.One.WALRatio = f.Single.Median, f.SingleSlow.Median, f.SingleRatio.Median
		case progMemory:
			e.Reference.Memory = f.PerSecond.Median
		}
	}
	return e
}
