package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"runtime/pprof"
	"time"

	"github.com/spf13/cobra"

	"peermesh/spool"
)

// Whatever a bench measures runs in processes of its own, a sender and a receiver. This
// file is such a process: the same executable with the hidden verb "bench child", told
// what to be and do on its stdin and heard on its stdout, one JSON object a line.
//
//	bench                        child
//	  benchRole     ------------>  opens what the role needs
//	                <------------  benchReport: where it is
//	  benchOrder    ------------>  does that
//	                <------------  benchReport: how that went
//	  end of stdin  ------------>  leaves

// The roles of receivers. A receiver of Nodes has as many nodes or servers.
const (
	rolePull       = "pull"
	roleSub        = "sub"
	roleRep        = "rep"
	roleQUICServer = "quic-server"
	roleTLSServer  = "tls-server"
	roleUDPServer  = "udp-server"
	roleDrain      = "drain" // of roleBacklog: takes messages as it is told to
)

// The roles of senders.
const (
	rolePush      = "push"
	rolePub       = "pub"
	roleReq       = "req"
	roleDurable   = "durable"
	roleQUIC      = "quic"
	roleTLS       = "tls"
	roleUDP       = "udp"
	roleWAL       = "wal"
	rolePlainFile = "plain-file"

	roleQUICSpread = "quic-spread" // each message to one server
	roleBacklog    = "backlog"     // durable, for receivers that dial it later
)

// benchName is the queue, channel, service and topic of every bench.
const benchName = "bench"

// benchRole says what a child is to be.
type benchRole struct {
	Role        string        `json:"role"`
	Mesh        string        `json:"mesh,omitempty"` // the credential of a mesh made for this run
	Size        int           `json:"size"`           // bytes of a message
	Nodes       int           `json:"nodes,omitempty"`
	Ready       int           `json:"ready,omitempty"` // of push: receivers that it waits for; 0: one
	Concurrency int           `json:"concurrency,omitempty"`
	Dir         string        `json:"dir,omitempty"`          // of durable: its own; of files: where to make one
	SpoolKey    string        `json:"spool_key,omitempty"`    // of durable: its key file
	Spool       spool.Profile `json:"spool,omitempty"`        // of durable
	PlainSocket bool          `json:"plain_socket,omitempty"` // a node's packets come one by one
	UDPOnly     bool          `json:"udp_only,omitempty"`     // nodes do not meet at a Unix socket
	Stripes     int           `json:"stripes,omitempty"`      // connections of a busy pair
	Poll        time.Duration `json:"poll,omitempty"`         // of nodes
	To          []string      `json:"to,omitempty"`           // of senders: the addresses of receivers; of roleDrain: of its sender
	Profile     string        `json:"profile,omitempty"`      // where to leave a CPU profile; empty: none
}

// What a child may be told to do.
const (
	doReport    = "report"    // of a receiver: nothing but tell
	doBurst     = "burst"     // as many messages as it can
	doPaced     = "paced"     // messages at a rate
	doSingle    = "single"    // one at a time, each when the one before is done
	doYardstick = "yardstick" // as doBurst, of messages of yardstickSize
	doCollect   = "collect"   // give back memory that is garbage, and tell
	doSettle    = "settle"    // nothing but wait until no message is owed any more
)

// benchOrder is one thing to do.
type benchOrder struct {
	Do   string        `json:"do"`
	N    int           `json:"n,omitempty"` // messages; 0: as many as there are in For
	For  time.Duration `json:"for,omitempty"`
	Rate float64       `json:"rate,omitempty"` // messages a second
}

// benchReport is what a child tells.
type benchReport struct {
	Addrs   []string      `json:"addrs,omitempty"`
	N       int           `json:"n,omitempty"` // messages that the order was
	Took    time.Duration `json:"took,omitempty"`
	Used    usage         `json:"used"`
	Latency *histogram    `json:"latency,omitempty"` // of what was measured since the last report
	Err     string        `json:"err,omitempty"`
}

// usage is what a process has used since it began, and what it has.
type usage struct {
	CPU      time.Duration `json:"cpu_ns"`
	Memory   int64         `json:"memory"`   // the most bytes it had
	Resident int64         `json:"resident"` // bytes it has now; 0 where the system does not tell
}

// benchChild is a child as the bench sees it.
type benchChild struct {
	in   io.WriteCloser
	out  *json.Decoder
	wait func() error
}

// startBenchChild runs this executable once more.
func (a *app) startBenchChild(ctx context.Context) (*benchChild, error) {
	cmd, err := a.again(ctx, "bench", "child")
	if err != nil {
		return nil, err
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &benchChild{in: in, out: json.NewDecoder(out), wait: cmd.Wait}, nil
}

// ask writes a line and reads what the child answers.
func (o *benchChild) ask(line any) (r benchReport, err error) {
	text, err := json.Marshal(line)
	if err == nil {
		_, err = o.in.Write(append(text, '\n'))
	}
	if err == nil {
		err = o.out.Decode(&r)
	}
	if err == nil && r.Err != "" {
		err = errors.New(r.Err)
	}
	if err != nil {
		return r, fmt.Errorf("child of the bench: %w", err)
	}
	return r, nil
}

// end makes the child leave and waits until it has.
func (o *benchChild) end() error {
	err := o.in.Close()
	werr := o.wait()
	if exit, ok := errors.AsType[*exec.ExitError](werr); ok && exit.ExitCode() == exitLoss {
		return failf(exitLoss, "child of the bench: messages were lost")
	}
	if werr != nil {
		return fmt.Errorf("child of the bench: %w", werr)
	}
	return err
}

// benchChildCommand is the hidden verb.
func benchChildCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:    "child",
		Hidden: true,
		Args:   arguments(0, 0, "nothing"),
		RunE:   func(cmd *cobra.Command, _ []string) error { return beBenchChild(cmd.Context(), a.stdin, a.stdout) },
	}
}

// beBenchChild does as it is told on in until that ends.
func beBenchChild(ctx context.Context, in io.Reader, out io.Writer) error {
	orders, reports := json.NewDecoder(in), json.NewEncoder(out)
	var role benchRole
	if err := orders.Decode(&role); err != nil {
		return fmt.Errorf("role: %w", err)
	}
	side, err := role.open(ctx)
	if err != nil {
		return errors.Join(err, reports.Encode(benchReport{Err: err.Error()}))
	}
	profiled := func() error { return nil }
	if role.Profile != "" {
		profiled, err = profile(role.Profile)
	}
	return errors.Join(err, obey(ctx, side, orders, reports), side.close(), profiled())
}

// profile writes what this process spends its time with to a file until end is called.
func profile(path string) (end func() error, err error) {
	f, err := os.Create(path)
	if err != nil {
		return func() error { return nil }, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return f.Close, err
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}

// open makes what the role asks for.
func (r benchRole) open(ctx context.Context) (benchSide, error) {
	switch r.Role {
	case rolePull, roleSub, roleRep:
		return r.openReceiver(ctx)
	case roleQUICServer, roleTLSServer, roleUDPServer:
		return r.openServers()
	case roleDrain:
		return r.openDrain(ctx)
	case rolePush, rolePub, roleReq, roleDurable, roleBacklog:
		return r.openSender(ctx)
	case roleQUIC, roleTLS, roleQUICSpread:
		return r.openRaw(ctx)
	case roleUDP:
		return r.openUDP()
	case roleWAL, rolePlainFile:
		return r.openFile()
	}
	return nil, fmt.Errorf("no such role: %q", r.Role)
}

// benchSide is what a child is. It can follow those orders for which it has what is
// below.
type benchSide interface {
	// report tells of a receiver where it is, and what it has seen since it was asked last.
	report() benchReport
	// close ends it. It tells of a message that was not done.
	close() error
}

type (
	bursting interface {
		// burst does as much as it can and returns how many messages the other end has
		// answered for, which is all that were sent, but over UDP.
		burst(ctx context.Context, l limit) (n int, err error)
	}
	pacing interface {
		// paced sends so many messages a second; it is the receiver who sees how long they take.
		paced(ctx context.Context, l limit, rate float64) (n int, err error)
	}
	singling interface {
		// single does one after the other and tells how long each took.
		single(ctx context.Context, l limit) (*histogram, error)
	}
	yarding interface {
		// yard is a burst of messages of yardstickSize.
		yard(ctx context.Context, l limit) (n int, err error)
	}
	settling interface {
		// settle waits until the other end has answered for all.
		settle(ctx context.Context) error
	}
)

// obey follows orders until there are no more.
func obey(ctx context.Context, side benchSide, orders *json.Decoder, reports *json.Encoder) error {
	o := benchOrder{Do: doReport}
	for {
		began := time.Now()
		r, err := o.follow(ctx, side)
		r.Took, r.Used = time.Since(began), usageNow()
		if err != nil {
			r.Err = err.Error()
		}
		if err := reports.Encode(r); err != nil {
			return err
		}
		o = benchOrder{}
		if err := orders.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("order: %w", err)
		}
	}
}

// follow does what the order says.
func (o benchOrder) follow(ctx context.Context, side benchSide) (r benchReport, err error) {
	l := limit{count: o.N, d: o.For}
	can := false
	switch o.Do {
	case doReport:
		return side.report(), nil
	case doCollect:
		debug.FreeOSMemory() // stacks are cut in half by each collection
		debug.FreeOSMemory()
		return side.report(), nil
	case doBurst:
		var s bursting
		if s, can = side.(bursting); can {
			r.N, err = s.burst(ctx, l)
		}
	case doPaced:
		var s pacing
		if s, can = side.(pacing); can {
			r.N, err = s.paced(ctx, l, o.Rate)
		}
	case doSingle:
		var s singling
		if s, can = side.(singling); can {
			r.Latency, err = s.single(ctx, l)
		}
	case doYardstick:
		var s yarding
		if s, can = side.(yarding); can {
			r.N, err = s.yard(ctx, l)
		}
	case doSettle:
		var s settling
		if s, can = side.(settling); can {
			err = s.settle(ctx)
		}
	}
	if !can {
		err = fmt.Errorf("it cannot do this: %q", o.Do)
	}
	return r, err
}
