package node_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"peermesh/node"
	"peermesh/patterns"
	"peermesh/socket"
)

// The blocks of docs/EMBED.md.

func ExampleNode_Shutdown() {
	ctx := context.Background()
	n, err := node.Open(ctx, config) // one node for the whole process, for as long as it lives
	check(err)

	jobs, err := n.Push("jobs", patterns.OnOverflow(patterns.Refuse))
	check(err)
	work, err := n.Pull("jobs")
	check(err)

	var working sync.WaitGroup
	working.Go(func() { // ends with the node, not with a signal: what is begun is finished
		err := work.Handle(context.Background(), 4, func(_ context.Context, m *socket.Message) error {
			fmt.Printf("resizing %s\n", m.Body)
			return nil // done; an error gives it back, to be tried again after a pause, ten times at most
		})
		if !errors.Is(err, socket.ErrClosed) {
			check(err)
		}
	})

	switch err := jobs.Send(ctx, []byte("cat.png")); {
	case errors.Is(err, socket.ErrQueueFull):
		fmt.Println("busy, try again later") // what an HTTP handler would answer
	default:
		check(err)
	}

	end, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	check(jobs.Flush(end)) // Shutdown ends the receiving sockets first, and here nobody else pulls
	check(n.Shutdown(end)) // waits for what is owed; what is given up when the time is over stands in the error
	working.Wait()
	// Output: resizing cat.png
}

func ExampleNode_Push_durable() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "state")
	check(err)
	defer os.RemoveAll(dir)
	kept := config
	kept.Dir = dir

	n, err := node.Open(ctx, kept)
	check(err)
	jobs, err := n.Push("jobs") // with a Dir the level is Durable
	check(err)
	receipt, err := jobs.Post(ctx, &socket.Message{Body: []byte("cat.png")})
	check(err)
	check(receipt.Stored(ctx)) // on disk: from here on it is delivered, whatever dies
	id := receipt.ID()         // text, to be stored beside the order
	check(n.Close())           // nobody has pulled it

	n, err = node.Open(ctx, kept) // the next life
	check(err)
	defer n.Close()
	jobs, err = n.Push("jobs")
	check(err)
	work, err := n.Pull("jobs")
	check(err)
	m, err := work.Recv(ctx)
	check(err)
	fmt.Printf("%s, begun before: %v\n", m.Body, m.Redelivered())
	check(m.Ack())
	check(jobs.Flush(ctx))
	fate, err := jobs.Ask(id)
	check(err)
	fmt.Println(fate.State)
	// Output:
	// cat.png, begun before: false
	// done
}
