package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"peermesh/node"

	"github.com/spf13/cobra"
)

// pathView is the way to a peer.
type pathView struct {
	ID        string  `json:"id"`
	Name      string  `json:"name"`
	Local     string  `json:"local"`
	Remote    string  `json:"remote"`
	Dialed    bool    `json:"dialed"` // by the node that was asked
	SinceMs   int64   `json:"since_ms"`
	MinUs     int64   `json:"min_us"`
	RTTUs     int64   `json:"rtt_us"` // smoothed
	LatestUs  int64   `json:"latest_us"`
	JitterUs  int64   `json:"jitter_us"` // mean deviation
	Window    uint64  `json:"window"`
	Sent      uint64  `json:"sent"`
	Lost      uint64  `json:"lost"`
	Received  uint64  `json:"received"`
	LossShare float64 `json:"loss"`
	BytesOut  uint64  `json:"bytes_out"`
	BytesIn   uint64  `json:"bytes_in"`
	Via       string  `json:"via"` // unix: messages do not take this path
}

func pathOf(p node.Path) pathView {
	if p.Local == nil {
		return pathView{}
	}
	v := pathView{ID: p.Peer.ID.String(), Name: p.Peer.Name, Local: p.Local.String(), Remote: p.Peer.Addr, Dialed: p.Dialed,
		SinceMs: time.Since(p.Peer.Since).Milliseconds(), MinUs: p.Least.Microseconds(), RTTUs: p.Smoothed.Microseconds(),
		LatestUs: p.Latest.Microseconds(), JitterUs: p.Deviation.Microseconds(), Window: p.Window, Sent: p.Sent, Lost: p.Lost,
		Received: p.Received, BytesOut: p.SentBytes, BytesIn: p.ReceivedBytes, Via: p.Peer.Via}
	if p.Sent > 0 {
		v.LossShare = float64(p.Lost) / float64(p.Sent)
	}
	return v
}

func pathCommand(a *app) *cobra.Command {
	v := pingVerb{}
	cmd := &cobra.Command{
		Use:     "path NODE",
		GroupID: groupSee,
		Short:   "The way to a node: addresses, round trips, loss",
		Long: `Shows the link to the peer with that id or name as the node of --dir has measured it since the
link is up, and some round trips through both processes now. Without --dir a new node makes a link of
its own first, for at most --timeout (3s).`,
		Example: `  peermesh path resizer-1 --dir state
  peermesh path resizer-1 --peer 10.0.0.5:4000 --count 100 --interval 10ms`,
		Args: arguments(1, 1, "one NODE, by id or name"),
		RunE: func(cmd *cobra.Command, args []string) error { return v.runPath(cmd.Context(), a, args[0]) },
	}
	v.register(cmd)
	return cmd
}

func (v *pingVerb) runPath(ctx context.Context, a *app, who string) (err error) {
	s, err := v.open(ctx, a, "path", who)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	tripped := v.trips(ctx, a, s, who)
	p, err := s.path(ctx, who)
	if err != nil {
		return errors.Join(tripped, unlessTold(ctx, err))
	}
	a.events.emit("path", p)
	return errors.Join(tripped, a.showPath(p))
}

func (a *app) showPath(p pathView) error {
	if a.events != nil {
		return nil
	}
	us := func(n int64) string { return brief(time.Duration(n) * time.Microsecond) }
	by := "it dialled"
	if p.Dialed {
		by = "dialled from here"
	}
	rows := [][]string{
		{"node", oneLine(p.Name) + " " + p.ID},
		{"path", p.Local + " -> " + p.Remote + ", " + by},
		{"up", brief(time.Duration(p.SinceMs) * time.Millisecond)},
		{"rtt", fmt.Sprintf("min %s, smoothed %s, latest %s, deviation %s", us(p.MinUs), us(p.RTTUs), us(p.LatestUs), us(p.JitterUs))},
		{"loss", fmt.Sprintf("%d of %d packets (%.2f %%)", p.Lost, p.Sent, 100*p.LossShare)},
		{"window", fmt.Sprintf("%d bytes", p.Window)},
		{"bytes", fmt.Sprintf("%d out, %d in", p.BytesOut, p.BytesIn)},
	}
	if p.Via == node.ViaUnix {
		rows = append(rows, []string{"messages", "by way of a Unix socket, for it is on this host"})
	}
	return table(a.stdout, "", rows)
}
