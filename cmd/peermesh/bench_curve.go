package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"peermesh/internal/identity"
	"peermesh/node/reference"
)

// benchCurveCommand is "bench curve": what becomes of a rate when there is more of something.
func benchCurveCommand(a *app) *cobra.Command {
	const want = "give peers or waiting"
	cmd := &cobra.Command{
		Use:   "curve",
		Short: "What more peers, or more messages that wait, do to the rates",
		Example: `  peermesh bench curve peers --udp-only
  peermesh bench curve waiting --dir /var/tmp`,
		Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("there is no curve %q; "+want, args[0])
			}
			return usagef(want)
		},
	}
	cmd.AddCommand(peerCurveCommand(a))
	cmd.AddCommand(waitCurveCommand(a))
	return cmd
}

// showCurve measures and shows what was found, as an event or for people.
func showCurve[E any](ctx context.Context, a *app, run func(context.Context) (E, error), show func(E) error) error {
	ctx, stop := a.benchTime(ctx)
	defer stop()
	e, err := run(ctx)
	if err != nil {
		return a.benchEnded(err)
	}
	a.events.emit("bench", e)
	if a.events != nil {
		return nil
	}
	return show(e)
}

// peerCurve holds messages from one Push to many peers against those to one.
//
//	4 peers:    peermesh to 4  | QUIC to 4  | peermesh to 1 | QUIC to 1 | peermesh to 4 | ...
//	16 peers:   peermesh to 16 | QUIC to 16 | peermesh to 1 | ...
//
// What is measured within the same seconds can be compared, so each step has those to one peer among its programs.
type peerCurve struct {
	size     int
	most     int // peers
	rounds   int
	count    int // messages of each program at each step; 0: as many as there are in duration
	duration time.Duration
	udpOnly  bool   // peermesh uses QUIC, as between hosts
	profile  string // a directory for CPU profiles of the programs with many peers; empty: none are made
	start    func(context.Context) (*benchChild, error)
	note     func(format string, args ...any)
}

// peerCurveEvent is what was found.
type peerCurveEvent struct {
	Workload string      `json:"workload"`
	Size     int         `json:"size"`
	Cores    int         `json:"cores"`
	Rounds   int         `json:"rounds"`
	UDPOnly  bool        `json:"udp_only"`
	Points   []peerPoint `json:"points"`
}

// peerPoint is one step.
type peerPoint struct {
	Peers    int            `json:"peers"`
	Programs []curveFigures `json:"programs"`           // peermesh first
	Quotient *spread        `json:"quotient,omitempty"` // peermesh's ToOne to QUIC's, round by round; of more peers than one
}

// curveFigures are those of one program at one step.
type curveFigures struct {
	figures
	ToOne *spread `json:"to_one_peer,omitempty"` // messages a second to those with one peer
}

func peerCurveCommand(a *app) *cobra.Command {
	c := peerCurve{start: a.startBenchChild, note: a.note}
	cmd := &cobra.Command{
		Use:   "peers",
		Short: "Messages from one sender to 1, 4, 16, 64 and 256 pullers, beside raw QUIC",
		Long: `Send messages from one Push to so many Pulls, a node each and all of them in one process, and the
same over as many connections of raw QUIC; each message goes to one of them. Told are messages a
second in all, and what they are to those with one peer in the same round. The quotient is the
first of these to the second: below 1, peermesh loses more by having so many peers than QUIC does.
With --udp-only it uses as many connections of QUIC; otherwise these nodes meet at Unix sockets.`,
		Example: `  peermesh bench curve peers --udp-only
  peermesh bench curve peers --peers 64 --rounds 9 --json`,
		Args: arguments(0, 0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.check(); err != nil {
				return err
			}
			c.udpOnly = a.global.udpOnly
			return showCurve(cmd.Context(), a, c.run, a.printPeerCurve)
		},
	}
	f := cmd.Flags()
	f.IntVar(&c.size, "size", 100, "`bytes` of a message")
	f.IntVar(&c.most, "peers", maxSubscribers, "up to `N` peers, four times as many each step")
	f.IntVar(&c.rounds, "rounds", 5, "`N` rounds that count")
	f.IntVar(&c.count, "count", 0, "`N` messages of each program at each step, whatever time they take")
	f.DurationVar(&c.duration, "duration", 2500*time.Millisecond, "time for messages, of each program at each step, if there is no count")
	f.StringVar(&c.profile, "profile", "", "leave CPU profiles of the processes with many peers in the `directory`")
	return cmd
}

// check refuses what cannot be measured.
func (c *peerCurve) check() error {
	switch {
	case c.size < stampSize || c.size > reference.MaxBody:
		return usagef("--size %d: %d to %d bytes", c.size, stampSize, reference.MaxBody)
	case c.most < 2 || c.most > maxSubscribers:
		return usagef("--peers %d: 2 to %d", c.most, maxSubscribers)
	case c.rounds < 1 || c.rounds > maxRounds:
		return usagef("--rounds %d: 1 to %d", c.rounds, maxRounds)
	case c.count < 0:
		return usagef("--count %d is negative; give 0 or more", c.count)
	case c.count == 0 && c.duration < time.Millisecond:
		return usagef("--duration %v: at least 1ms", c.duration)
	}
	return nil
}

// run measures. It blocks until all is done or ctx has ended, and leaves nothing behind.
func (c *peerCurve) run(ctx context.Context) (peerCurveEvent, error) {
	e := peerCurveEvent{Workload: "curve-peers", Size: c.size, Cores: runtime.GOMAXPROCS(0), Rounds: c.rounds, UDPOnly: c.udpOnly}
	if c.profile != "" {
		if err := os.MkdirAll(c.profile, 0o755); err != nil {
			return e, err
		}
	}
	for _, n := range steps(4, c.most, 4) {
		all, err := c.step(ctx, n)
		if err != nil {
			return e, err
		}
		if len(e.Points) == 0 {
			e.Points = append(e.Points, peerPoint{Peers: 1, Programs: []curveFigures{{figures: all[2].figures(all[2])}, {figures: all[3].figures(all[2])}}})
		}
		e.Points = append(e.Points, pointOf(n, all))
	}
	return e, nil
}

// steps are first, times as many and so on, and most at the end.
func steps(first, most, times int) (all []int) {
	for n := first; n < most; n *= times {
		all = append(all, n)
	}
	return append(all, most)
}

// programs are peermesh and QUIC with so many peers, and both with one.
func (c *peerCurve) programs(n int, mesh string) (all []*contender) {
	for _, peers := range []int{n, 1} {
		all = append(all, &contender{name: progPeermesh,
			sender:   benchRole{Role: rolePush, Mesh: mesh, Size: c.size, Concurrency: 1, Ready: peers, UDPOnly: c.udpOnly},
			receiver: benchRole{Role: rolePull, Mesh: mesh, Size: c.size, Nodes: peers, UDPOnly: c.udpOnly},
		}, &contender{name: progQUIC,
			sender:   benchRole{Role: roleQUICSpread, Mesh: mesh, Size: c.size},
			receiver: benchRole{Role: roleQUICServer, Mesh: mesh, Nodes: peers},
		})
	}
	if c.profile != "" {
		for _, p := range all[:2] {
			path := filepath.Join(c.profile, fmt.Sprintf("curve-%d-%s-", n, p.name))
			p.sender.Profile, p.receiver.Profile = path+"sender.pprof", path+"receiver.pprof"
		}
	}
	return all
}

// step measures with so many peers, and with one.
func (c *peerCurve) step(ctx context.Context, n int) (_ []*contender, err error) {
	mesh, err := newBenchMesh()
	if err != nil {
		return nil, err
	}
	all := c.programs(n, mesh)
	defer func() {
		err = errors.Join(err, endAll(all))
		if ctx.Err() != nil {
			err = context.Cause(ctx) // whatever else went wrong did for this reason
		}
	}()
	for _, p := range all {
		if err := p.open(ctx, c.start); err != nil {
			return nil, err
		}
	}
	rates := make([]float64, len(all))
	for round := range 1 + c.rounds {
		if err := inTurns(all, round, oneOf(c.rounds, c.count, c.duration), func(i int, rate float64) { rates[i] = rate }); err != nil {
			return nil, err
		}
		if round > 0 {
			c.note("%d peers, round %d of %d: messages a second: peermesh %.0f, QUIC %.0f; with one peer %.0f, %.0f", n, round, c.rounds, rates[0], rates[1], rates[2], rates[3])
		}
	}
	for _, p := range all {
		if p.sendPeak, p.receivePeak, err = p.peaks(); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// pointOf compares the programs of a step with each other.
func pointOf(n int, all []*contender) peerPoint {
	own, raw := over(all[0].bursts, all[2].bursts), over(all[1].bursts, all[3].bursts)
	return peerPoint{Peers: n, Quotient: spreadOf(over(own, raw)), Programs: []curveFigures{
		{all[0].figures(all[0]), spreadOf(own)},
		{all[1].figures(all[0]), spreadOf(raw)},
	}}
}

// newBenchMesh makes a mesh for one run.
func newBenchMesh() (credential string, err error) {
	mesh, err := identity.NewMesh(time.Now())
	if err != nil {
		return "", err
	}
	pem, err := mesh.Marshal()
	return string(pem), err
}

// printPeerCurve tells people.
func (a *app) printPeerCurve(e peerCurveEvent) error {
	const row = "%-6v %-9s %11s %9s .. %6s   %-20s %-20s %16s %20s\n"
	over := "at Unix sockets"
	if e.UDPOnly {
		over = "over QUIC"
	}
	fmt.Fprintf(a.stdout, "%d bytes, %s, %d cores, %d rounds\n", e.Size, over, e.Cores, e.Rounds)
	fmt.Fprintf(a.stdout, row, "peers", "program", "messages/s", "least", "most", "to one  least .. most", "quotient least .. most", "cpu s/M send+recv", "peak MB send+recv")
	for _, p := range e.Points {
		for i, f := range p.Programs {
			peers, quotient := any(p.Peers), three(p.Quotient)
			if i > 0 {
				peers, quotient = "", ""
			}
			if _, err := fmt.Fprintf(a.stdout, row, peers, f.Name, amount(f.PerSecond.Median), amount(f.PerSecond.Min), amount(f.PerSecond.Max), three(f.ToOne), quotient,
				fmt.Sprintf("%.2f + %.2f", f.SendCPU, f.ReceiveCPU), fmt.Sprintf("%.0f + %.0f", float64(f.SendMemory)/1e6, float64(f.ReceiveMemory)/1e6)); err != nil {
				return err
			}
		}
	}
	return nil
}

// three writes a ratio with its least and its most; nothing of nil.
func three(s *spread) string {
	if s == nil {
		return ""
	}
	return fmt.Sprintf("%6.2f %6.2f .. %.2f", s.Median, s.Min, s.Max)
}
