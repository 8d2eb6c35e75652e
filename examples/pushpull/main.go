// Command pushpull shares work out: an office sends jobs to a queue, and whoever pulls
// from it does them.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"

	"peermesh/node"
	"peermesh/socket"
)

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	office, err := node.Open(ctx, node.Config{Name: "office", Listen: "127.0.0.1:0", NoMDNS: true})
	if err != nil {
		return err
	}
	defer office.Close()
	jobs, err := office.Push("jobs")
	if err != nil {
		return err
	}
	// Nobody is there to do these jobs yet. Send takes responsibility all the same: from
	// now on each is owed, until somebody has done it or the ledger says why not.
	for i := range 10 {
		if err := jobs.Send(ctx, fmt.Appendf(nil, "picture %d", i)); err != nil {
			return err
		}
	}

	worker, err := node.Open(ctx, node.Config{Name: "worker", Listen: "127.0.0.1:0", NoMDNS: true, Peers: []string{office.Addr().String()}})
	if err != nil {
		return err
	}
	defer worker.Close()
	work, err := worker.Pull("jobs")
	if err != nil {
		return err
	}
	// Four at a time. To return nil is to acknowledge; an error gives the job back, to be
	// done again after a while, by this worker or another. So does a crash. Handle ends when
	// the worker closes.
	go work.Handle(ctx, 4, func(_ context.Context, m *socket.Message) error {
		if string(m.Body) == "picture 7" && m.Attempt() == 1 {
			return errors.New("out of ink")
		}
		fmt.Printf("%s printed at attempt %d\n", m.Body, m.Attempt())
		return nil
	})

	if err := jobs.Flush(ctx); err != nil { // until nothing is owed any more
		return err
	}
	l := jobs.Stats().Ledger
	fmt.Printf("%d jobs accepted = %d done + %d dead\n", l.Accepted, l.Done, l.Dead)
	return nil
}
