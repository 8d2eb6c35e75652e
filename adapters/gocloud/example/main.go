// Command example is two services that know gocloud.dev/pubsub and not the mesh: a till that
// publishes orders, and an accountant who was away when they were made.
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

	"peermesh/adapters/gocloud"
	"peermesh/node"

	"gocloud.dev/pubsub"
)

func main() {
	dir, err := os.MkdirTemp("", "gocloud")
	if err != nil {
		log.Fatal(err)
	}
	err = run(context.Background(), dir)
	if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, dir string) error {
	atTill, till, err := open(ctx, dir, "till")
	if err != nil {
		return err
	}
	defer till.Close()
	if err := sell(ctx, atTill); err != nil {
		return err
	}

	books, accountant, err := open(ctx, dir, "accountant", till.Addr().String())
	if err != nil {
		return err
	}
	defer accountant.Close()
	return account(ctx, books)
}

// sell knows the URL alone.
func sell(ctx context.Context, mux *pubsub.URLMux) error {
	orders, err := mux.OpenTopic(ctx, "peermesh://pub/orders?expect=accountants")
	if err != nil {
		return err
	}
	for i := range 3 {
		m := &pubsub.Message{Body: fmt.Appendf(nil, "lamp %d", i+1), Metadata: map[string]string{"shop": "Basel"}}
		if err := orders.Send(ctx, m); err != nil { // on the till's disk when it returns
			return err
		}
	}
	return orders.Shutdown(ctx)
}

func account(ctx context.Context, mux *pubsub.URLMux) error {
	orders, err := mux.OpenSubscription(ctx, "peermesh://sub/orders?durable=accountants")
	if err != nil {
		return err
	}
	for range 3 {
		m, err := orders.Receive(ctx)
		if err != nil {
			return errors.Join(err, orders.Shutdown(ctx))
		}
		fmt.Printf("%s, sold in %s\n", m.Body, m.Metadata["shop"])
		m.Ack()
	}
	return orders.Shutdown(ctx)
}

// open makes a node and what opens URLs with it.
func open(ctx context.Context, dir, name string, peers ...string) (*pubsub.URLMux, *node.Node, error) {
	n, err := node.Open(ctx, node.Config{Name: name, Dir: filepath.Join(dir, name), Listen: "127.0.0.1:0", NoMDNS: true, Peers: peers})
	if err != nil {
		return nil, nil, err
	}
	opener, mux := &gocloud.URLOpener{Node: n}, new(pubsub.URLMux)
	mux.RegisterTopic(gocloud.Scheme, opener)
	mux.RegisterSubscription(gocloud.Scheme, opener)
	return mux, n, nil
}
