// Command example is a till that makes a CloudEvent of each order, and an accountant who handles
// them.
//
//	go run ./example
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"peermesh/adapters/cloudevents"
	"peermesh/node"

	"github.com/cloudevents/sdk-go/v2/client"
	"github.com/cloudevents/sdk-go/v2/event"
)

func main() {
	dir, err := os.MkdirTemp("", "cloudevents")
	if err != nil {
		log.Fatal(err)
	}
	err = run(context.Background(), dir)
	if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, dir string) error {
	till, err := open(ctx, dir, "till")
	if err != nil {
		return err
	}
	defer till.Close()
	accountant, err := open(ctx, dir, "accountant", till.Addr().String())
	if err != nil {
		return err
	}
	defer accountant.Close()

	if err := sell(ctx, till); err != nil {
		return err
	}
	return account(ctx, accountant)
}

func sell(ctx context.Context, n *node.Node) error {
	orders, err := n.Push("orders")
	if err != nil {
		return err
	}
	c, err := client.New(cloudevents.Push(orders), client.WithTimeNow(), client.WithUUIDs())
	if err != nil {
		return err
	}
	for i := range 3 {
		e := event.New()
		e.SetType("com.example.order.made")
		e.SetSource("/shops/basel")
		if err := e.SetData(event.TextPlain, fmt.Sprintf("lamp %d", i+1)); err != nil {
			return err
		}
		if err := c.Send(ctx, e); err != nil { // on the till's disk when it returns nil
			return err
		}
	}
	return nil
}

func account(ctx context.Context, n *node.Node) error {
	orders, err := n.Pull("orders")
	if err != nil {
		return err
	}
	// One at a time, so that the orders come as they were made.
	c, err := client.New(cloudevents.Pull(orders), client.WithPollGoroutines(1), client.WithBlockingCallback())
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	seen := 0
	return c.StartReceiver(ctx, func(e event.Event) {
		fmt.Printf("%s %s: %s\n", e.Source(), e.Type(), e.Data())
		if seen++; seen == 3 {
			stop()
		}
	})
}

func open(ctx context.Context, dir, name string, peers ...string) (*node.Node, error) {
	return node.Open(ctx, node.Config{Name: name, Dir: filepath.Join(dir, name), Listen: "127.0.0.1:0", NoMDNS: true, Peers: peers})
}
