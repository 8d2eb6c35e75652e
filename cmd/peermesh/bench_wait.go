package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/cobra"
)

// waitCurve says what messages that wait on disk do to those that come and go. At each level two new processes do this:
//
//	sender      puts chunk on disk                                                       warm
//	receiver    takes chunk, and leaves
//	sender      puts level on disk, then chunk (1), then chunk: level and two wait
//	receiver    is back, takes chunk, then chunk (2), then the rest
//
// (1) and (2) are timed: both while at least level messages wait, and as many at each level, so that what it takes to begin
// and to end is the same.
type waitCurve struct {
	size        int
	least, most int // messages that wait
	chunk       int
	rounds      int
	dir         string // where directories are made; empty: the system's for temporary files
	spoolKey    string
	start       func(context.Context) (*benchChild, error)
	note        func(format string, args ...any)
}

// waitCurveEvent is what was found.
type waitCurveEvent struct {
	Workload  string      `json:"workload"`
	Size      int         `json:"size"`
	Chunk     int         `json:"chunk"`
	Cores     int         `json:"cores"`
	Rounds    int         `json:"rounds"`
	Disk      string      `json:"disk"`
	Points    []waitPoint `json:"points"`
	SendSlope float64     `json:"rss_send_per_message"` // bytes of peak memory for each message more that waits, from the least to the most
	RecvSlope float64     `json:"rss_receive_per_message"`
}

// waitPoint is one level. The shares are of the rates at the least level in the same round.
type waitPoint struct {
	Waiting    int     `json:"waiting"`
	Send       *spread `json:"send_msgs_per_s"`
	SendShare  *spread `json:"send_to_least"`
	Drain      *spread `json:"drain_msgs_per_s"`
	DrainShare *spread `json:"drain_to_least"`
	SendPeak   *spread `json:"rss_peak_send"` // bytes
	RecvPeak   *spread `json:"rss_peak_receive"`
}

// waitLevel is what was seen at one level, by rounds.
type waitLevel struct{ send, drain, sendPeak, recvPeak []float64 }

func waitCurveCommand(a *app) *cobra.Command {
	c := waitCurve{start: a.startBenchChild, note: a.note}
	cmd := &cobra.Command{
		Use:   "waiting",
		Short: "Sending and draining while up to ten million durable messages wait",
		Long: `Put messages on disk while so many wait there, and take as many while so many still do. Told are
both rates at each number, what they are to those with the fewest in the same round, and the
most memory that sender and receiver had, with what a message that waits adds to it. State
directories are made below --dir, or among the temporary files; ten million messages of 100
bytes take some 2 GB.`,
		Example: `  peermesh bench curve waiting --dir /var/tmp
  peermesh bench curve waiting --most 1000000 --rounds 9 --json`,
		Args: arguments(0, 0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.check(); err != nil {
				return err
			}
			c.dir, c.spoolKey = a.global.dir, a.global.spoolKey
			return showCurve(cmd.Context(), a, c.run, a.printWaitCurve)
		},
	}
	f := cmd.Flags()
	f.IntVar(&c.size, "size", 100, "`bytes` of a message")
	f.IntVar(&c.least, "least", 10_000, "`N` messages that wait, at the first level")
	f.IntVar(&c.most, "most", maxWaiting, "up to `N` messages, ten times as many each level")
	f.IntVar(&c.chunk, "chunk", 200_000, "rates are those of `N` messages")
	f.IntVar(&c.rounds, "rounds", 3, "`N` rounds")
	return cmd
}

// Bounds of a curve, for the sake of disks.
const (
	maxWaiting = 10_000_000
	maxChunk   = 1_000_000
)

// check refuses what cannot be measured.
func (c *waitCurve) check() error {
	switch {
	case c.size < stampSize || c.size > 1<<10:
		return usagef("--size %d: %d to %d bytes", c.size, stampSize, 1<<10)
	case c.most < 1 || c.most > maxWaiting:
		return usagef("--most %d: 1 to %d", c.most, maxWaiting)
	case c.least < 1 || c.least > c.most:
		return usagef("--least %d: 1 to --most, %d", c.least, c.most)
	case c.chunk < 1 || c.chunk > maxChunk:
		return usagef("--chunk %d: 1 to %d", c.chunk, maxChunk)
	case c.rounds < 1 || c.rounds > maxRounds:
		return usagef("--rounds %d: 1 to %d", c.rounds, maxRounds)
	}
	return nil
}

// run measures. It blocks until all is done or ctx has ended, and leaves nothing behind.
func (c *waitCurve) run(ctx context.Context) (e waitCurveEvent, err error) {
	parent := (&benchPlan{dir: c.dir}).disk()
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return e, err
	}
	counts := steps(c.least, c.most, 10)
	levels := make([]waitLevel, len(counts))
	for round := range c.rounds {
		notes := make([]string, len(counts))
		for i, n := range counts {
			l := &levels[i]
			if err := c.level(ctx, parent, n, l); err != nil {
				return e, err
			}
			notes[i] = fmt.Sprintf("%s %.0f, %.0f", amount(float64(n)), l.send[round], l.drain[round])
		}
		c.note("round %d of %d: messages a second, sent and drained, by those waiting: %s", round+1, c.rounds, strings.Join(notes, "; "))
	}
	e = waitCurveEvent{Workload: "curve-waiting", Size: c.size, Chunk: c.chunk, Cores: runtime.GOMAXPROCS(0), Rounds: c.rounds, Disk: parent}
	e.fill(counts, levels)
	return e, nil
}

// fill makes figures of what was seen.
func (e *waitCurveEvent) fill(counts []int, levels []waitLevel) {
	for i, l := range levels {
		e.Points = append(e.Points, waitPoint{Waiting: counts[i], Send: spreadOf(l.send), SendShare: spreadOf(over(l.send, levels[0].send)),
			Drain: spreadOf(l.drain), DrainShare: spreadOf(over(l.drain, levels[0].drain)), SendPeak: spreadOf(l.sendPeak), RecvPeak: spreadOf(l.recvPeak)})
	}
	first, last := e.Points[0], e.Points[len(e.Points)-1]
	if more := float64(last.Waiting - first.Waiting); more > 0 {
		e.SendSlope = (last.SendPeak.Median - first.SendPeak.Median) / more
		e.RecvSlope = (last.RecvPeak.Median - first.RecvPeak.Median) / more
	}
}

// level has new processes do one level, and notes what it was.
func (c *waitCurve) level(ctx context.Context, parent string, n int, l *waitLevel) (err error) {
	dir, err := os.MkdirTemp(parent, "bench-")
	if err != nil {
		return err
	}
	var p contender
	defer func() {
		err = errors.Join(err, endAll([]*contender{&p}), os.RemoveAll(dir))
		if ctx.Err() != nil {
			err = context.Cause(ctx) // whatever else went wrong did for this reason
		}
	}()
	mesh, err := newBenchMesh()
	if err != nil {
		return err
	}
	p.sender = benchRole{Role: roleBacklog, Mesh: mesh, Size: c.size, Dir: filepath.Join(dir, "sender"), SpoolKey: c.spoolKey}
	p.receiver = benchRole{Role: roleDrain, Mesh: mesh, Size: c.size, Dir: filepath.Join(dir, "receiver"), SpoolKey: c.spoolKey}
	if p.send, err = c.start(ctx); err != nil {
		return err
	}
	r, err := p.send.ask(p.sender)
	if err != nil {
		return err
	}
	p.receiver.To = r.Addrs
	return c.measure(ctx, &p, n, l)
}

// measure has the processes of a level do what it takes.
func (c *waitCurve) measure(ctx context.Context, p *contender, n int, l *waitLevel) error {
	if _, err := timed(p.send, c.chunk); err != nil {
		return err
	}
	if _, err := c.drain(ctx, p, c.chunk); err != nil {
		return err
	}
	if err := p.receive.end(); err != nil {
		return err
	}
	p.receive = nil
	sent, err := timed(p.send, n, c.chunk, c.chunk)
	if err != nil {
		return err
	}
	drained, err := c.drain(ctx, p, c.chunk, c.chunk, n)
	if err != nil {
		return err
	}
	sendPeak, recvPeak, err := p.peaks()
	if err != nil {
		return err
	}
	l.send, l.drain = append(l.send, sent[1]), append(l.drain, drained[1])
	l.sendPeak, l.recvPeak = append(l.sendPeak, float64(sendPeak)), append(l.recvPeak, float64(recvPeak))
	return nil
}

// timed has a child do bursts of so many messages, and tells how many a second each was.
func timed(child *benchChild, counts ...int) (rates []float64, err error) {
	for _, n := range counts {
		r, err := child.ask(benchOrder{Do: doBurst, N: n})
		if err != nil {
			return nil, err
		}
		rates = append(rates, float64(r.N)/r.Took.Seconds())
	}
	return rates, nil
}

// drain starts a receiver that takes all that waits, in bursts of so many.
func (c *waitCurve) drain(ctx context.Context, p *contender, counts ...int) (rates []float64, err error) {
	if p.receive, err = c.start(ctx); err != nil {
		return nil, err
	}
	if _, err := p.receive.ask(p.receiver); err != nil {
		return nil, err
	}
	if rates, err = timed(p.receive, counts...); err != nil {
		return nil, err
	}
	_, err = p.send.ask(benchOrder{Do: doSettle})
	return rates, err
}

// printWaitCurve tells people.
func (a *app) printWaitCurve(e waitCurveEvent) error {
	const row = "%-8s %11s %9s .. %6s   %-24s %11s %9s .. %6s   %-24s %17s\n"
	fmt.Fprintf(a.stdout, "%d bytes, %d messages for a rate, %d cores, %d rounds, disk %s\n", e.Size, e.Chunk, e.Cores, e.Rounds, e.Disk)
	fmt.Fprintf(a.stdout, row, "waiting", "sent/s", "least", "most", "to least  least .. most", "drained/s", "least", "most", "to least  least .. most", "peak MB send+recv")
	for _, p := range e.Points {
		if _, err := fmt.Fprintf(a.stdout, row, amount(float64(p.Waiting)), amount(p.Send.Median), amount(p.Send.Min), amount(p.Send.Max), three(p.SendShare),
			amount(p.Drain.Median), amount(p.Drain.Min), amount(p.Drain.Max), three(p.DrainShare), fmt.Sprintf("%.0f + %.0f", p.SendPeak.Median/1e6, p.RecvPeak.Median/1e6)); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(a.stdout, "memory for a message that waits: %.1f bytes at the sender, %.1f at the receiver\n", e.SendSlope, e.RecvSlope)
	return err
}
