package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
)

// pingVerb is `peermesh ping`.
type pingVerb struct {
	count    int
	interval time.Duration
}

func pingCommand(a *app) *cobra.Command {
	var v pingVerb
	cmd := &cobra.Command{
		Use:     "ping NODE",
		GroupID: groupSee,
		Short:   "Round trips over the link to a node",
		Long: `Measures round trips over the link to the peer with that id or name, through both processes.
Without --dir a new node waits for that peer, at most --timeout (3s).`,
		Example: `  peermesh ping resizer-1 --dir state
  peermesh ping resizer-1 --count 100 --interval 10ms`,
		Args: arguments(1, 1, "one NODE, by id or name"),
		RunE: func(cmd *cobra.Command, args []string) error { return v.run(cmd.Context(), a, args[0]) },
	}
	v.register(cmd)
	return cmd
}

func (v *pingVerb) register(cmd *cobra.Command) {
	cmd.Flags().IntVar(&v.count, "count", 5, "how many round `trips`")
	cmd.Flags().DurationVar(&v.interval, "interval", 200*time.Millisecond, "`time` between two")
}

type pingEvent struct {
	N     int    `json:"n"`
	ID    string `json:"id"`
	Name  string `json:"name"`
	RTTUs int64  `json:"rtt_us"`
}

type pingSummary struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Sent     int    `json:"sent"`
	Received int    `json:"received"`
	MinUs    int64  `json:"min_us"`
	MedianUs int64  `json:"median_us"`
	MaxUs    int64  `json:"max_us"`
	P90Us    int64  `json:"p90_us"`
	P99Us    int64  `json:"p99_us"`
}

func (v *pingVerb) run(ctx context.Context, a *app, who string) (err error) {
	s, err := v.open(ctx, a, "ping", who)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	return v.trips(ctx, a, s, who)
}

// open returns where to look from once the peer is there.
func (v *pingVerb) open(ctx context.Context, a *app, verb, who string) (sight, error) {
	if v.count < 1 || v.interval < 0 {
		return nil, usagef("--count is at least 1, and --interval not negative")
	}
	s, patience, err := a.openSight(ctx, verb)
	if err != nil {
		return nil, err
	}
	if patience > 0 {
		if err := await(ctx, s, who, patience); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	return s, nil
}

// awaitEvery is how often a new node looks whether the peer is there.
const awaitEvery = 20 * time.Millisecond

// await waits until there is an answer from who.
func await(ctx context.Context, s sight, who string, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		_, err := s.ping(ctx, who)
		if !errors.Is(err, errNoPeer) {
			return err
		}
		if pause(ctx, awaitEvery) != nil {
			return err
		}
	}
}

// pingWithin bounds one round trip.
const pingWithin = 5 * time.Second

// trips measures and prints.
func (v *pingVerb) trips(ctx context.Context, a *app, s sight, who string) error {
	sum := pingSummary{}
	var rtts []time.Duration
	var last error
	for n := range v.count {
		if n > 0 && pause(ctx, v.interval) != nil {
			break // told to leave
		}
		sum.Sent++
		one, cancel := context.WithTimeout(ctx, pingWithin)
		p, err := s.ping(one, who)
		cancel()
		if err != nil {
			last = err
			a.note("%d: %s", n+1, oneLine(err.Error()))
			continue
		}
		sum.ID, sum.Name = p.ID, p.Name
		rtt := time.Duration(p.RTTNs)
		rtts = append(rtts, rtt)
		a.events.emit("ping", pingEvent{n, p.ID, p.Name, rtt.Microseconds()})
		if err := a.line(fmt.Sprintf("%d: %s %s %s", n+1, oneLine(p.Name), p.ID, brief(rtt))); err != nil {
			return err
		}
	}
	if sum.Received = len(rtts); sum.Received == 0 {
		return failf(exitCodeOr(last, exitUnreachable), "no answer from %s: %w", who, last)
	}
	slices.Sort(rtts)
	least, median, most := rtts[0], rtts[len(rtts)/2], rtts[len(rtts)-1]
	p90, p99 := percentile(rtts, 90), percentile(rtts, 99)
	sum.P90Us, sum.P99Us = p90.Microseconds(), p99.Microseconds()
	sum.MinUs, sum.MedianUs, sum.MaxUs = least.Microseconds(), median.Microseconds(), most.Microseconds()
	a.events.emit("pings", sum)
	if err := a.line(fmt.Sprintf("%d of %d answered: min %s, median %s, p90 %s, p99 %s, max %s", sum.Received, sum.Sent, brief(least), brief(median),
		brief(p90), brief(p99), brief(most))); err != nil {
		return err
	}
	if sum.Received < sum.Sent && ctx.Err() == nil {
		return failf(exitFailed, "%d of %d round trips were lost", sum.Sent-sum.Received, sum.Sent)
	}
	return nil
}

// percentile is the least value of those sorted that p of a hundred do not exceed.
func percentile(sorted []time.Duration, p int) time.Duration {
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}
