package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"peermesh/node/reference"
	"peermesh/spool"
)

// bench is one run: a workload, and the programs that do it.
//
//	burst peermesh | burst QUIC | burst TLS | ... | burst peermesh | ...   how much, as fast as it goes
//	paced peermesh | paced peermesh | ...                                  how long a message takes
//	single peermesh | single QUIC | ...                                    how long one takes that is waited for
//
// The machine's speed drifts, so all take turns, and only the ratios of one round mean
// much.
type bench struct {
	plan     benchPlan
	start    func(context.Context) (*benchChild, error)
	note     func(format string, args ...any)
	programs []*contender // the first one is what is measured, the others are what it is held against
	free     []func() error
}

// benchPlan is what was asked for.
type benchPlan struct {
	workload    string
	size        int
	subscribers int
	concurrency int
	rounds      int   // that count; one more goes before them, for windows to grow and caches to fill
	limit       limit // of one burst
	reference   bool
	plainSocket bool
	udpOnly     bool
	poll        time.Duration
	stripes     int
	spoolKey    string        // key file of durable; empty: not encrypted
	spool       spool.Profile // of durable
	profile     string        // a directory for CPU profiles; empty: none are made
	dir         string        // of durable: where directories are made; empty: the system's for temporary files
}

// The workloads.
const (
	workPush    = "push"
	workPub     = "pub"
	workReq     = "req"
	workDurable = "durable"
)

// The programs.
const (
	progPeermesh    = "peermesh"
	progPlainSocket = "plain socket" // peermesh, but for its packet conn
	progQUIC        = "QUIC"
	progTLS         = "TLS"
	progUDP         = "UDP"
	progWAL         = "WAL"
	progPlainFile   = "plain file"
	progMemory      = "memory" // peermesh, but for the disk
)

// disk is where the directories are made.
func (p *benchPlan) disk() string {
	if p.dir == "" {
		return os.TempDir()
	}
	return p.dir
}

// contender is a program that does the workload.
type contender struct {
	name          string
	sender        benchRole
	receiver      benchRole // no Role: there is none
	send, receive *benchChild

	bursts                []float64 // messages a second, by rounds
	n                     int       // messages of all bursts
	sendCPU, receiveCPU   time.Duration
	sendPeak, receivePeak int64
	paced, singles        []*histogram
	yards                 []float64 // messages a second
}

// profileOf is the file of one process's profile.
func (p *benchPlan) profileOf(program, side string) string {
	name := strings.Join([]string{p.title(), program, side}, "-")
	return filepath.Join(p.profile, strings.NewReplacer(" ", "-", "->", "-to-", "=", "-").Replace(name)+".pprof")
}

// lineUp says which programs the plan asks for. dir is for what they write.
func (p *benchPlan) lineUp(dir string) []*contender {
	receivers := map[string]string{workPush: rolePull, workPub: roleSub, workReq: roleRep, workDurable: rolePull}
	own := &contender{name: progPeermesh, sender: benchRole{Role: p.workload, Size: p.size, Concurrency: p.concurrency},
		receiver: benchRole{Role: receivers[p.workload], Size: p.size, Nodes: p.subscribers}}
	for _, r := range []*benchRole{&own.sender, &own.receiver} {
		r.UDPOnly, r.Stripes, r.Poll = p.udpOnly, p.stripes, p.poll
	}
	memory, plain := *own, *own
	plain.name, plain.sender.PlainSocket, plain.receiver.PlainSocket = progPlainSocket, true, true
	all := []*contender{own}
	if p.plainSocket {
		all = append(all, &plain)
	}
	if p.workload == workDurable {
		own.sender.Dir, own.receiver.Dir = filepath.Join(dir, "sender"), filepath.Join(dir, "receiver")
		plain.sender.Dir, plain.receiver.Dir = filepath.Join(dir, "plain-sender"), filepath.Join(dir, "plain-receiver")
		for _, c := range []*contender{own, &plain} {
			c.sender.SpoolKey, c.receiver.SpoolKey = p.spoolKey, p.spoolKey
			c.sender.Spool, c.receiver.Spool = p.spool, p.spool
		}
		memory.name, memory.sender.Role = progMemory, rolePush
		if p.reference {
			all = append(all, &contender{name: progWAL, sender: benchRole{Role: roleWAL, Size: p.size, Dir: dir}},
				&contender{name: progPlainFile, sender: benchRole{Role: rolePlainFile, Size: p.size, Dir: dir}}, &memory)
		}
		return all
	}
	if !p.reference {
		return all
	}
	raw := func(name, sender, receiver string) *contender {
		r := &contender{name: name, sender: benchRole{Role: sender, Size: p.size}, receiver: benchRole{Role: receiver, Nodes: p.subscribers}}
		if p.workload == workReq {
			r.sender.Concurrency = p.concurrency
		}
		return r
	}
	all = append(all, raw(progQUIC, roleQUIC, roleQUICServer), raw(progTLS, roleTLS, roleTLSServer))
	if p.workload == workPush && p.size <= reference.MaxDatagram || p.workload == workReq && p.concurrency == 1 {
		all = append(all, raw(progUDP, roleUDP, roleUDPServer))
	}
	return all
}

// run measures. It blocks until all is done or ctx has ended, and leaves nothing
// behind.
func (b *bench) run(ctx context.Context) (r *benchResult, err error) {
	defer func() {
		err = errors.Join(err, b.close())
		if ctx.Err() != nil {
			err = context.Cause(ctx) // whatever else went wrong did for this reason
		}
	}()
	if err := b.open(ctx); err != nil {
		return nil, err
	}
	for _, phase := range []func(round int) error{b.bursts, b.latencies} {
		for i := range 1 + b.plan.rounds {
			if err := phase(i); err != nil {
				return nil, err
			}
		}
	}
	for _, p := range b.programs {
		if p.sendPeak, p.receivePeak, err = p.peaks(); err != nil {
			return nil, err
		}
	}
	return b.plan.result(b.programs), nil
}

// open starts the children.
func (b *bench) open(ctx context.Context) error {
	mesh, err := newBenchMesh()
	if err != nil {
		return err
	}
	if b.plan.profile != "" {
		if err := os.MkdirAll(b.plan.profile, 0o755); err != nil {
			return err
		}
	}
	dir := ""
	if b.plan.workload == workDurable {
		if err := os.MkdirAll(b.plan.disk(), 0o700); err != nil {
			return err
		}
		if dir, err = os.MkdirTemp(b.plan.disk(), "bench-"); err != nil {
			return err
		}
		b.free = append(b.free, func() error { return os.RemoveAll(dir) })
	}
	for _, p := range b.plan.lineUp(dir) {
		b.programs = append(b.programs, p)
		p.sender.Mesh, p.receiver.Mesh = mesh, mesh
		if b.plan.profile != "" {
			p.sender.Profile, p.receiver.Profile = b.plan.profileOf(p.name, "sender"), b.plan.profileOf(p.name, "receiver")
		}
		if err := p.open(ctx, b.start); err != nil {
			return err
		}
	}
	return nil
}

// open starts the children of a program.
func (p *contender) open(ctx context.Context, start func(context.Context) (*benchChild, error)) (err error) {
	if p.receiver.Role != "" {
		if p.receive, err = start(ctx); err != nil {
			return err
		}
		r, err := p.receive.ask(p.receiver)
		if err != nil {
			return err
		}
		p.sender.To = r.Addrs
	}
	if p.send, err = start(ctx); err != nil {
		return err
	}
	_, err = p.send.ask(p.sender)
	return err
}

// bursts has each program do as much as it can, and those that are yardsticks once more.
// The round before the first does not count.
func (b *bench) bursts(round int) error {
	rates := make([]string, len(b.programs))
	if err := inTurns(b.programs, round, b.plan.limit, func(i int, rate float64) {
		rates[i] = fmt.Sprintf("%s %.0f", b.programs[i].name, rate)
	}); err != nil {
		return err
	}
	if round > 0 {
		b.note("round %d of %d: messages a second: %s", round, b.plan.rounds, strings.Join(rates, ", "))
	}
	for _, p := range b.programs {
		if p.name != progQUIC && p.name != progTLS {
			continue
		}
		r, err := p.send.ask(benchOrder{Do: doYardstick, N: b.plan.short().count, For: b.plan.short().d})
		if err != nil {
			return err
		}
		if round > 0 {
			p.yards = append(p.yards, float64(r.N)/r.Took.Seconds())
		}
	}
	return nil
}

// inTurns has each program do one burst, which counts but in round 0, and tells how many messages a second that was.
func inTurns(all []*contender, round int, l limit, tell func(i int, rate float64)) error {
	for k := range all {
		i := (k + round) % len(all) // each goes first in its turn
		rate, err := all[i].burst(l, round > 0)
		if err != nil {
			return err
		}
		tell(i, rate)
	}
	return nil
}

// short is the limit of what need not be as long as a burst.
func (p *benchPlan) short() limit {
	if p.limit.count > 0 {
		return limit{count: max(p.limit.count/4, 1)}
	}
	return limit{d: p.limit.d / 2}
}

// latencies measures how long a message takes when there is no crowd.
func (b *bench) latencies(round int) error {
	l := b.plan.short()
	if b.plan.workload != workReq {
		own := b.programs[0]
		h, err := own.pace(l, median(own.bursts)/2)
		if err != nil {
			return err
		}
		if round > 0 {
			own.paced = append(own.paced, h)
		}
	}
	if b.plan.workload == workPush || b.plan.workload == workPub {
		return nil
	}
	if b.plan.workload == workDurable && l.count > 0 {
		l.count = max(l.count/25, 1) // each waits for the disk
	}
	for _, p := range b.programs {
		if p.name == progMemory {
			continue
		}
		r, err := p.send.ask(benchOrder{Do: doSingle, N: l.count, For: l.d})
		if err != nil {
			return err
		}
		if round > 0 {
			p.singles = append(p.singles, r.Latency)
		}
	}
	return nil
}

// used tells what both children have used so far.
func (p *contender) used() (send, receive usage, err error) {
	r, err := p.send.ask(benchOrder{Do: doReport})
	if err != nil || p.receive == nil {
		return r.Used, usage{}, err
	}
	q, err := p.receive.ask(benchOrder{Do: doReport})
	return r.Used, q.Used, err
}

func (p *contender) peaks() (send, receive int64, err error) {
	s, r, err := p.used()
	return s.Memory, r.Memory, err
}

// burst runs one, and notes what it was if it counts.
func (p *contender) burst(l limit, counts bool) (rate float64, err error) {
	sent, received, err := p.used()
	if err != nil {
		return 0, err
	}
	r, err := p.send.ask(benchOrder{Do: doBurst, N: l.count, For: l.d})
	if err != nil {
		return 0, err
	}
	sentThen, receivedThen, err := p.used()
	rate = float64(r.N) / r.Took.Seconds()
	if counts {
		p.bursts = append(p.bursts, rate)
		p.n += r.N
		p.sendCPU += sentThen.CPU - sent.CPU
		p.receiveCPU += receivedThen.CPU - received.CPU
	}
	return rate, err
}

// pace sends messages at a rate and returns how long they took.
func (p *contender) pace(l limit, rate float64) (*histogram, error) {
	r, err := p.send.ask(benchOrder{Do: doPaced, N: l.count, For: l.d, Rate: rate})
	if err != nil {
		return nil, err
	}
	q, err := p.receive.ask(benchOrder{Do: doReport})
	if err != nil {
		return nil, err
	}
	if q.Latency == nil || q.Latency.n != uint64(r.N) {
		return nil, errors.New("messages were acknowledged that the receiver has not handled")
	}
	return q.Latency, nil
}

// close ends everything that was opened: senders first, who owe their receivers a word.
func (b *bench) close() error {
	errs := []error{endAll(b.programs)}
	for _, f := range b.free {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

// endAll makes the children leave.
func endAll(all []*contender) error {
	var errs []error
	for _, p := range all {
		for _, c := range []*benchChild{p.send, p.receive} {
			if c != nil {
				errs = append(errs, c.end())
			}
		}
	}
	return errors.Join(errs...)
}
