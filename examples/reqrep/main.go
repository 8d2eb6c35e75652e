// Command reqrep has questions answered: whoever answers for a service gets its share
// of the requests, and every request ends with one of four outcomes.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"peermesh/node"
	"peermesh/patterns"
	"peermesh/socket"
)

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	server, err := node.Open(ctx, node.Config{Name: "server", Listen: "127.0.0.1:0", NoMDNS: true})
	if err != nil {
		return err
	}
	defer server.Close()
	upper, err := server.Rep("upper")
	if err != nil {
		return err
	}
	// Many requests are answered at a time. ServeRequests ends when the server closes.
	go upper.ServeRequests(ctx, func(_ context.Context, m *socket.Message) ([]byte, error) {
		switch string(m.Body) {
		case "":
			return nil, errors.New("nothing to shout")
		case "slow":
			time.Sleep(5 * time.Second) // longer than the client waits
		}
		return bytes.ToUpper(m.Body), nil
	})

	client, err := node.Open(ctx, node.Config{Name: "client", Listen: "127.0.0.1:0", NoMDNS: true, Peers: []string{server.Addr().String()}})
	if err != nil {
		return err
	}
	defer client.Close()
	// By default a request is executed at most once. patterns.Executed(patterns.Idempotent)
	// would let it be asked again elsewhere when a replier is lost.
	shout, err := client.Req("upper")
	if err != nil {
		return err
	}
	for _, question := range []string{"hello", "", "slow"} {
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		answer, err := shout.Request(ctx, []byte(question))
		cancel()
		var remote *patterns.RemoteError
		switch {
		case err == nil:
			fmt.Printf("%q: %s\n", question, answer)
		case errors.As(err, &remote): // executed once, and this is what the handler said
			fmt.Printf("%q: the server says: %s\n", question, remote.Message)
		case errors.Is(err, patterns.ErrIndeterminate): // the deadline passed while it was there
			fmt.Printf("%q: nobody knows whether it was shouted\n", question)
		default: // patterns.ErrNotExecuted: certainly not
			return err
		}
	}
	return nil
}
