package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"peermesh/internal/insight"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// topVerb is `peermesh top`.
type topVerb struct {
	seeing
	interval time.Duration
}

func topCommand(a *app) *cobra.Command {
	var v topVerb
	cmd := &cobra.Command{
		Use:     "top",
		GroupID: groupSee,
		Short:   "A live view of a node: names, rates, queues, peers",
		Long: `Shows the node that runs with --dir DIR, or its peer --node NAME, until told to leave: what each
socket has done since the last frame, what waits, who is attached, and the peers. The busiest sockets
come first. When stdout is no terminal it prints one frame; with --json one object a socket and frame.`,
		Example: `  peermesh top --dir state
  peermesh top --dir state --node resizer-1 --interval 5s`,
		Args: arguments(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error { return v.run(cmd.Context(), a) },
	}
	v.registerNode(cmd)
	cmd.Flags().DurationVar(&v.interval, "interval", time.Second, "`time` between two frames")
	return cmd
}

// rateView is what a socket has done between two frames.
type rateView struct {
	Kind    string  `json:"kind"`
	Name    string  `json:"name"`
	Label   string  `json:"label,omitempty"`
	InPerS  float64 `json:"in_per_s"`  // accepted, or delivered
	OutPerS float64 `json:"out_per_s"` // settled, or done
	Queued  uint64  `json:"queued"`
	Leased  uint64  `json:"leased"` // or begun
	StillMs int64   `json:"still_ms,omitempty"`
	Pipes   int     `json:"pipes"`
	Failed  uint64  `json:"failed"` // ever: dead, expired, dropped, or given back
}

// The sequences of a terminal: its second screen and back, without the cursor and with it; home; clear from here on.
const (
	screenOpen  = "\x1b[?1049h\x1b[?25l"
	screenClose = "\x1b[?25h\x1b[?1049l"
	screenHome  = "\x1b[H"
	screenRest  = "\x1b[J"
	lineRest    = "\x1b[K"
)

func (v *topVerb) run(ctx context.Context, a *app) (err error) {
	if v.interval <= 0 {
		return usagef("--interval is a positive duration")
	}
	if a.global.dir == "" && v.node == "" {
		return usagef("top needs --dir of a running node, or --node of a peer: peermesh peers lists them")
	}
	from, err := v.open(ctx, a, "top")
	if err != nil {
		return unlessTold(ctx, err)
	}
	defer func() { err = errors.Join(err, from.close()) }()
	if d := a.global.timeout; d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	live := isTerminal(a.stdout) && a.events == nil
	if live {
		if _, err := a.stdout.Write([]byte(screenOpen)); err != nil {
			return err
		}
		defer func() {
			_, werr := a.stdout.Write([]byte(screenClose))
			err = errors.Join(err, werr)
		}()
	}
	return v.frames(ctx, a, from, live)
}

// frames draws until ctx ends; without a terminal or --json one is enough.
func (v *topVerb) frames(ctx context.Context, a *app, from sight, live bool) error {
	last, err := from.look(ctx, v.node)
	if err != nil {
		return unlessTold(ctx, err)
	}
	at := time.Now()
	for pause(ctx, v.interval) == nil {
		seen, err := from.look(ctx, v.node)
		if err != nil {
			return unlessTold(ctx, err)
		}
		now := time.Now()
		rates := ratesOf(last, seen, now.Sub(at))
		last, at = seen, now
		for _, r := range rates {
			a.events.emit("rate", r)
		}
		if a.events != nil {
			continue
		}
		width, height := 0, 0
		if live {
			width, height = terminalSize(a.stdout)
		}
		if err := draw(a, topFrame(seen, rates, width, height), live); err != nil || !live {
			return err
		}
	}
	return nil
}

func terminalSize(v any) (width, height int) {
	if f, ok := v.(*os.File); ok {
		if w, h, err := term.GetSize(int(f.Fd())); err == nil {
			return w, h
		}
	}
	return 80, 24
}

func draw(a *app, lines []string, live bool) error {
	text := strings.Join(lines, "\n") + "\n"
	if live {
		text = screenHome + strings.Join(lines, lineRest+"\r\n") + lineRest + screenRest
	}
	_, err := a.stdout.Write([]byte(text))
	return err
}

// ratesOf compares two views that were taken so long after each other, busiest sockets first.
func ratesOf(before, after view, d time.Duration) []rateView {
	key := func(s socketView) [3]string { return [3]string{s.Kind, s.Name, s.Label} }
	old := map[[3]string]rateCounts{}
	for _, s := range before.Sockets {
		old[key(s)] = countsOf(s)
	}
	rates := make([]rateView, 0, len(after.Sockets))
	for _, s := range after.Sockets {
		c, o := countsOf(s), old[key(s)]
		if c.in < o.in || c.out < o.out {
			o = rateCounts{} // it was closed and opened again
		}
		r := rateView{Kind: s.Kind, Name: s.Name, Label: s.Label, InPerS: float64(c.in-o.in) / d.Seconds(), OutPerS: float64(c.out-o.out) / d.Seconds(),
			Queued: c.queued, Leased: c.leased, StillMs: s.StillMs, Failed: c.failed, Pipes: c.pipes}
		rates = append(rates, r)
	}
	slices.SortStableFunc(rates, func(a, b rateView) int {
		return cmp.Or(cmp.Compare(b.InPerS+b.OutPerS, a.InPerS+a.OutPerS), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return rates
}

// rateCounts is what of a socket's counts a frame shows.
type rateCounts struct {
	in, out, queued, leased, failed uint64
	pipes                           int
}

func countsOf(s socketView) (c rateCounts) {
	if r := s.Received; r != nil {
		return rateCounts{in: r.Delivered, out: r.Done, queued: uint64(r.Queued), leased: uint64(r.Begun), failed: r.Nacked, pipes: r.Pipes}
	}
	l := s.Ledger
	if l == nil {
		return c
	}
	c = rateCounts{in: l.Accepted + l.Handed, out: l.Done + l.Handed, queued: l.Queued, leased: l.Leased, failed: l.Dead + l.Expired}
	for _, n := range l.Dropped {
		c.failed += n
	}
	for _, consumer := range s.Consumers {
		if consumer.Attached {
			c.pipes++
		}
	}
	return c
}

// topFrame is one screen of that size; 0 is no bound.
func topFrame(v view, rates []rateView, width, height int) []string {
	s := v.Status
	lines := []string{fmt.Sprintf("%s  %s  %s  peers %d  sockets %d", oneLine(s.Name), shortID(s.ID), s.Addr, s.Peers, s.Sockets),
		"ledger " + ledgerText(s.Ledger), ""}
	var rows [][]string
	for _, r := range rates {
		name := oneLine(r.Name)
		if r.Label != "" {
			name += "/" + oneLine(r.Label)
		}
		still := "-"
		if r.StillMs > 0 {
			still = brief(time.Duration(r.StillMs) * time.Millisecond)
		}
		rows = append(rows, []string{r.Kind, name, perSecond(r.InPerS), perSecond(r.OutPerS), fmt.Sprint(r.Queued), fmt.Sprint(r.Leased),
			fmt.Sprint(r.Failed), fmt.Sprint(r.Pipes), still})
	}
	lines = append(lines, tableLines("KIND NAME IN/s OUT/s QUEUED IN-HAND FAILED PIPES STILL", rows)...)
	lines = append(lines, "")
	rows = nil
	for _, p := range v.Peers {
		rows = append(rows, []string{oneLine(p.Name), shortID(p.ID), p.Addr, brief(time.Duration(p.SinceMs) * time.Millisecond),
			brief(time.Duration(p.RTTUs) * time.Microsecond), offersText(p.Offers)})
	}
	lines = append(lines, tableLines("PEER ID ADDRESS UP RTT OFFERS", rows)...)
	return clip(lines, width, height)
}

func offersText(offers []insight.Offer) string {
	var out []string
	for _, o := range offers {
		out = append(out, o.Kind+" "+oneLine(o.Name))
	}
	return strings.Join(out, ", ")
}

func perSecond(f float64) string {
	if f < 10 {
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprintf("%.0f", f)
}

// tableLines are the lines of a table.
func tableLines(header string, rows [][]string) []string {
	var b bytes.Buffer
	_ = table(&b, header, append([][]string{}, rows...)) // a buffer takes everything
	if b.Len() == 0 {
		return []string{strings.ReplaceAll(header, " ", "  "), "-"}
	}
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
}

// clip cuts lines to a screen.
func clip(lines []string, width, height int) []string {
	if height > 0 && len(lines) > height {
		lines = lines[:height]
	}
	for i, l := range lines {
		if width > 0 && utf8.RuneCountInString(l) > width {
			lines[i] = string([]rune(l)[:width])
		}
	}
	return lines
}
