// Command example is two services that know Watermill and not the mesh: a till that publishes
// orders, and an accountant whose router makes an invoice of each.
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

	"peermesh/adapters/watermill"
	"peermesh/node"

	lib "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
)

func main() {
	dir, err := os.MkdirTemp("", "watermill")
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

	// Orders that nobody has taken yet wait for the group of the accountants.
	atTill := watermill.Open(till, watermill.Config{Groups: []string{"accountants"}})
	orders := atTill.Publisher()
	for i := range 3 {
		if err := orders.Publish("orders", message.NewMessage(lib.NewUUID(), fmt.Appendf(nil, "lamp %d", i+1))); err != nil {
			return err
		}
	}

	router, err := message.NewRouter(message.RouterConfig{}, lib.NopLogger{})
	if err != nil {
		return err
	}
	books := watermill.Open(accountant, watermill.Config{Groups: []string{"customers"}})
	router.AddHandler("invoice", "orders", books.Subscriber("accountants"), "invoices", books.Publisher(),
		func(m *message.Message) ([]*message.Message, error) {
			return message.Messages{message.NewMessage(lib.NewUUID(), append([]byte("invoice of "), m.Payload...))}, nil
		})
	ended := make(chan error, 1)
	go func() { ended <- router.Run(ctx) }()

	customers := atTill.Subscriber("customers")
	invoices, err := customers.Subscribe(ctx, "invoices")
	if err != nil {
		return err
	}
	for range 3 {
		m := <-invoices
		fmt.Printf("%s\n", m.Payload)
		m.Ack()
	}
	return errors.Join(customers.Close(), router.Close(), <-ended)
}

func open(ctx context.Context, dir, name string, peers ...string) (*node.Node, error) {
	return node.Open(ctx, node.Config{Name: name, Dir: filepath.Join(dir, name), Listen: "127.0.0.1:0", NoMDNS: true, Peers: peers})
}
