package typed_test

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"peermesh/patterns/typed"
	"peermesh/socket"
)

// Thumbnail is a job of the examples.
type Thumbnail struct {
	Image string
	Width int
}

func ExamplePush() {
	ctx := context.Background()
	push, pull, leave := queue(nil) // in a program: n.Push("thumbnails") here, n.Pull("thumbnails") there
	defer leave()

	jobs := typed.Push[Thumbnail]{Socket: push}
	must(jobs.Send(ctx, Thumbnail{Image: "cat.png", Width: 200}))

	work := typed.Pull[Thumbnail]{Socket: pull}
	for m := range work.Messages(ctx) {
		fmt.Printf("%s, %d wide\n", m.Value.Image, m.Value.Width)
		must(m.Ack())
		break
	}
	// Output: cat.png, 200 wide
}

func ExamplePub() {
	ctx := context.Background()
	pub, sub, leave := channel(nil) // n.Pub("weather") here, n.Sub("weather") there
	defer leave()

	weather := typed.Pub[float64]{Socket: pub}
	must(weather.Publish(ctx, "basel.temp", 21.5))

	board := typed.Sub[float64]{Socket: sub}
	for m := range board.Messages(ctx) {
		fmt.Printf("%s %.1f °C\n", m.Topic, m.Value)
		break
	}
	// Output: basel.temp 21.5 °C
}

func ExampleReq() {
	ctx := context.Background()
	req, rep, leave := service() // n.Req("words") here, n.Rep("words") there
	defer leave()

	answers := typed.Rep[string, []string]{Socket: rep}
	go answers.ServeRequests(ctx, func(_ context.Context, m typed.Message[string]) ([]string, error) {
		return strings.Fields(m.Value), nil
	})

	words := typed.Req[string, []string]{Socket: req}
	answer, err := words.Request(ctx, "a question")
	must(err)
	fmt.Printf("%q\n", answer)
	// Output: ["a" "question"]
}

// Lines is a codec for messages that are lines of text.
type Lines struct{}

// Append ends every line.
func (Lines) Append(dst []byte, v []string) ([]byte, error) {
	for _, line := range v {
		dst = append(append(dst, line...), '\n')
	}
	return dst, nil
}

// Decode insists on the end of the last line.
func (Lines) Decode(body []byte) ([]string, error) {
	if len(body) > 0 && body[len(body)-1] != '\n' {
		return nil, errors.New("the last line has no end")
	}
	return strings.Split(strings.TrimSuffix(string(body), "\n"), "\n"), nil
}

func ExampleCodec() {
	ctx := context.Background()
	push, pull, leave := queue(nil)
	defer leave()

	logs := typed.Push[[]string]{Socket: push, Codec: Lines{}}
	must(logs.Send(ctx, []string{"began", "ended"}))

	archive := typed.Pull[[]string]{
		Socket:      pull,
		Codec:       Lines{},
		Undecodable: func(m *socket.Message, err error) { fmt.Println("gave back", m.Seq(), err) },
	}
	m, err := archive.Recv(ctx)
	must(err)
	must(m.Ack())
	fmt.Println(strings.Join(m.Value, ", "))
	// Output: began, ended
}
