// Command pubsub spreads news: a weather station publishes on a channel, and each
// subscription gets what its patterns match.
package main

import (
	"context"
	"fmt"
	"log"

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
	station, err := node.Open(ctx, node.Config{Name: "station", Listen: "127.0.0.1:0", NoMDNS: true})
	if err != nil {
		return err
	}
	defer station.Close()
	weather, err := station.Pub("weather")
	if err != nil {
		return err
	}

	town, err := node.Open(ctx, node.Config{Name: "town", Listen: "127.0.0.1:0", NoMDNS: true, Peers: []string{station.Addr().String()}})
	if err != nil {
		return err
	}
	defer town.Close()
	// A topic is made of tokens. * stands for one of them, > for all the rest. Handle ends
	// when the town closes.
	for _, pattern := range []string{"*.temp", "basel.>"} {
		news, err := town.Sub("weather", patterns.Topics(pattern))
		if err != nil {
			return err
		}
		go news.Handle(ctx, 1, func(_ context.Context, m *socket.Message) error {
			fmt.Printf("%-8s got %s: %s\n", pattern, m.Topic, m.Body)
			return nil
		})
	}

	// News is not kept for whoever comes later, so see that both are listening.
	if err := weather.WaitMatching(ctx, "basel.temp", 2); err != nil {
		return err
	}
	for topic, reading := range map[string]string{
		"bern.temp":          "19 °C", // for *.temp
		"basel.temp":         "21 °C", // for both
		"basel.airport.wind": "5 m/s", // for basel.>
		"bern.wind":          "3 m/s", // for nobody: counted, and gone
	} {
		if err := weather.Publish(ctx, topic, []byte(reading)); err != nil {
			return err
		}
	}
	if err := weather.Flush(ctx); err != nil { // until every subscriber has what it is owed
		return err
	}
	l := weather.Stats().Ledger
	fmt.Printf("%d copies = %d done + %d that nobody wanted\n", l.Accepted, l.Done, l.Dropped["no-subscriber"])
	return nil
}
