package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
)

// benchIdle says what an idle node costs, and how soon a new one can send.
type benchIdle struct {
	peers    int
	duration time.Duration
}

// idleEvent is what was seen.
type idleEvent struct {
	Workload string  `json:"workload"`
	Peers    int     `json:"peers"`
	First    float64 `json:"first_message_us"`   // from the start of the process to the acknowledgement
	CPU      float64 `json:"cpu_of_a_core"`      // while idle
	Memory   int64   `json:"rss_peak"`           // bytes, with all peers
	Alone    int64   `json:"rss_peak_one_peer"`  // bytes, of another one with one peer
	PerPeer  float64 `json:"rss_per_peer"`       // bytes of rss_peak; 0 with one peer
	Resident int64   `json:"rss,omitempty"`      // bytes at the end, with all peers; Linux alone tells
	Kept     int64   `json:"rss_kept,omitempty"` // likewise, when garbage was collected and given back
	KeptPeer float64 `json:"rss_kept_per_peer,omitempty"`
	Seconds  float64 `json:"seconds"`
}

func benchIdleCommand(a *app) *cobra.Command {
	var b benchIdle
	cmd := &cobra.Command{
		Use:   "idle",
		Short: "What a node with nothing to do costs, and how soon a new one can send",
		Long: `Start a node with a Push in a process of its own and so many peers with a Pull, which it
knows by address, in another; send one message, and then none. Told are the time from the
start of the process to the acknowledgement of that message, the most memory that process had, what
each peer more than one adds to it, on Linux the memory it has at the end and what is left of that
when the garbage of the handshakes is given back, and its share of a core. The state directory of the node is made below --dir, if that is given; otherwise it has none.`,
		Example: `  peermesh bench idle --peers 10
  peermesh bench idle --peers 200 --duration 10s --json`,
		Args: arguments(0, 0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case b.peers < 1 || b.peers > maxSubscribers:
				return usagef("--peers %d: 1 to %d", b.peers, maxSubscribers)
			case b.duration < time.Millisecond:
				return usagef("--duration %v: at least 1ms", b.duration)
			}
			return a.benchIdle(cmd.Context(), b)
		},
	}
	cmd.Flags().IntVar(&b.peers, "peers", 10, "`N` nodes that it is linked to")
	cmd.Flags().DurationVar(&b.duration, "duration", 20*time.Second, "how `long` it is watched")
	return cmd
}

func (a *app) benchIdle(ctx context.Context, b benchIdle) error {
	one := b
	one.peers = 1
	alone, err := one.run(ctx, a.startBenchChild, a.global.dir)
	if err != nil {
		return err
	}
	e, err := b.run(ctx, a.startBenchChild, a.global.dir)
	if err != nil {
		return err
	}
	e.Alone = alone.Memory
	if b.peers > 1 {
		e.PerPeer = float64(e.Memory-e.Alone) / float64(b.peers-1)
		e.KeptPeer = float64(e.Kept-alone.Kept) / float64(b.peers-1)
	}
	a.events.emit("bench", e)
	if a.events != nil {
		return nil
	}
	if _, err = fmt.Fprintf(a.stdout, "idle      %d peers, %.0f s\nfirst     message acknowledged %s after the process began\ncpu       %.2f %% of a core\nmemory    %.1f MB, %.1f MB with one peer, %.0f KB a peer\n",
		e.Peers, e.Seconds, us(e.First), 100*e.CPU, float64(e.Memory)/1e6, float64(e.Alone)/1e6, e.PerPeer/1e3); err != nil {
		return err
	}
	if e.Resident > 0 {
		_, err = fmt.Fprintf(a.stdout, "resident  %.1f MB at the end\nkept      %.1f MB without garbage, %.0f KB a peer\n", float64(e.Resident)/1e6, float64(e.Kept)/1e6, e.KeptPeer/1e3)
	}
	return err
}

// run watches one node. It blocks until that is done or ctx has ended.
func (b benchIdle) run(ctx context.Context, start func(context.Context) (*benchChild, error), dir string) (e idleEvent, err error) {
	mesh, err := newBenchMesh()
	if err != nil {
		return e, err
	}
	state := ""
	if dir != "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return e, err
		}
		if dir, err = os.MkdirTemp(dir, "bench-"); err != nil {
			return e, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		state = filepath.Join(dir, "node")
	}
	peers, err := start(ctx)
	if err != nil {
		return e, err
	}
	defer func() { err = errors.Join(err, peers.end()) }()
	at, err := peers.ask(benchRole{Role: rolePull, Mesh: mesh, Size: stampSize, Nodes: b.peers})
	if err != nil {
		return e, err
	}
	began := time.Now()
	node, err := start(ctx)
	if err != nil {
		return e, err
	}
	defer func() { err = errors.Join(err, node.end()) }()
	if _, err := node.ask(benchRole{Role: rolePush, Mesh: mesh, Size: stampSize, Concurrency: 1, To: at.Addrs, Dir: state}); err != nil {
		return e, err
	}
	if _, err := node.ask(benchOrder{Do: doBurst, N: 1}); err != nil {
		return e, err
	}
	e = idleEvent{Workload: "idle", Peers: b.peers, First: float64(time.Since(began)) / float64(time.Microsecond), Seconds: b.duration.Seconds()}
	if err := pause(ctx, b.duration/4); err != nil { // what comes with new links passes
		return e, err
	}
	before, err := node.ask(benchOrder{Do: doReport})
	if err != nil {
		return e, err
	}
	if err := pause(ctx, b.duration); err != nil {
		return e, err
	}
	after, err := node.ask(benchOrder{Do: doReport})
	if err != nil {
		return e, err
	}
	e.CPU = (after.Used.CPU - before.Used.CPU).Seconds() / b.duration.Seconds()
	e.Memory, e.Resident = after.Used.Memory, after.Used.Resident
	kept, err := node.ask(benchOrder{Do: doCollect})
	e.Kept = kept.Used.Resident
	return e, err
}
