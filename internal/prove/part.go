package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"peermesh/node"
)

// part is a process on the library itself, for what the command does not offer: limits of subscriptions, many messages
// on their way to the disk at a time, transactions. It is this program again, as `prove part ROLE`, prints events, and ends
// when it is told to.
type part struct {
	mesh, dir, listen string
	peers             listFlag
	log               *eventLog
	node              *node.Node
}

// roles are what a part can be. Each returns what runs it, for its flags to be parsed in between.
var roles = map[string]func(*flag.FlagSet) func(context.Context, *part) error{
	"pub":    publisherFlags,
	"sub":    subscriberFlags,
	"source": sourceFlags,
	"stage":  stageFlags,
	"sink":   sinkFlags,
	"tally":  tallyFlags,
}

// partVerb is the verb that makes this program a part.
const partVerb = "part"

// playPart is the life of a part; it returns the exit code.
func playPart(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 || roles[args[0]] == nil {
		fmt.Fprintf(stderr, "prove part: %q is no role\n", args)
		return exitUsage
	}
	flags := flag.NewFlagSet("prove part "+args[0], flag.ContinueOnError)
	flags.SetOutput(stderr)
	p := part{log: newEventLog(stdout)}
	flags.StringVar(&p.mesh, "mesh", "", "mesh credential")
	flags.StringVar(&p.dir, "dir", "", "state directory")
	flags.StringVar(&p.listen, "listen", "127.0.0.1:0", "address")
	flags.Var(&p.peers, "peer", "static `address`, may repeat")
	act := roles[args[0]](flags)
	if err := flags.Parse(args[1:]); err != nil || flags.NArg() > 0 {
		fmt.Fprintln(stderr, "prove part:", flags.Args())
		return exitUsage
	}
	if err := p.live(ctx, args[0], act); err != nil {
		fmt.Fprintf(stderr, "prove part %s: %v\n", args[0], err)
		return exitBroken
	}
	return exitKept
}

// live opens the node, acts, and closes it.
func (p *part) live(ctx context.Context, role string, act func(context.Context, *part) error) error {
	var err error
	p.node, err = node.Open(ctx, node.Config{Name: role, Dir: p.dir, Mesh: p.mesh, Listen: p.listen, Peers: p.peers, NoMDNS: true})
	if err != nil {
		return err
	}
	return errors.Join(act(ctx, p), p.node.Close(), p.log.flush())
}

// unlessTold is err, but nil if that only says that the part was told to end.
func unlessTold(ctx context.Context, err error) error {
	if ctx.Err() != nil && (errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx))) {
		return nil
	}
	return err
}

// ready says that the part is there to be told things.
func (p *part) ready() error {
	p.log.ready()
	return p.log.flush()
}

// listFlag is a flag that may be given several times.
type listFlag []string

func (l *listFlag) String() string { return strings.Join(*l, " ") }

func (l *listFlag) Set(s string) error {
	*l = append(*l, s)
	return nil
}
