package node_test

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"time"

	"peermesh/internal/identity"
	"peermesh/node"
	"peermesh/patterns"
	"peermesh/socket"
)

// config keeps the examples to themselves: a mesh of their own, on loopback. A program
// begins with node.Config{}.
var config = node.Config{MeshPEM: ownMesh(), Listen: "127.0.0.1:0", NoMDNS: true}

func ownMesh() []byte {
	mesh, err := identity.NewMesh(time.Now())
	check(err)
	pem, err := mesh.Marshal()
	check(err)
	return pem
}

// check stands for what a program does with errors.
func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func ExampleNode_Push() {
	ctx := context.Background()
	n, err := node.Open(ctx, config)
	check(err)
	defer n.Close()

	jobs, err := n.Push("jobs")
	check(err)
	check(jobs.Send(ctx, []byte("cat.png"))) // kept until it is handled; no worker needs to be up yet

	work, err := n.Pull("jobs") // here, or in any other process of the mesh
	check(err)
	for m := range work.Messages(ctx) {
		fmt.Printf("resizing %s\n", m.Body)
		check(m.Ack()) // until then the job is owed, and goes elsewhere if this process dies
		break
	}
	// Output: resizing cat.png
}

func ExampleNode_Pub() {
	ctx := context.Background()
	n, err := node.Open(ctx, config)
	check(err)
	defer n.Close()

	board, err := n.Sub("weather", patterns.Topics("*.temp", "basel.>"))
	check(err)
	weather, err := n.Pub("weather")
	check(err)
	check(weather.WaitReady(ctx, 1)) // whoever subscribes later gets what is published later

	check(weather.Publish(ctx, "bern.temp", []byte("19 °C")))
	check(weather.Publish(ctx, "bern.wind", []byte("3 m/s"))) // wanted by nobody, and counted so
	check(weather.Publish(ctx, "basel.wind", []byte("5 m/s")))
	for range 2 {
		m, err := board.Recv(ctx)
		check(err)
		fmt.Printf("%s: %s\n", m.Topic, m.Body)
		check(m.Ack())
	}
	// Output:
	// bern.temp: 19 °C
	// basel.wind: 5 m/s
}

func ExampleNode_Req() {
	ctx := context.Background()
	n, err := node.Open(ctx, config)
	check(err)
	defer n.Close()

	upper, err := n.Rep("upper")
	check(err)
	go upper.ServeRequests(ctx, func(_ context.Context, m *socket.Message) ([]byte, error) {
		return bytes.ToUpper(m.Body), nil
	})

	ask, err := n.Req("upper") // here, or in any other process of the mesh
	check(err)
	answer, err := ask.Request(ctx, []byte("hello"))
	check(err)
	fmt.Printf("%s\n", answer)
	// Output: HELLO
}
