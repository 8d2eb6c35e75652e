// Command httpservice is an HTTP service with a node inside. What is posted to it is
// shared out over all its copies; what one copy is asked, another may answer.
//
//	go run ./examples/httpservice -http localhost:8001
//	go run ./examples/httpservice -http localhost:8002
//	curl -d cat.png localhost:8001/jobs
//	curl 'localhost:8002/upper?text=hello'
//
// Ctrl-C ends it in good order: HTTP first, then the jobs it still owes, then the node.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"peermesh/node"
	"peermesh/patterns"
	"peermesh/socket"
)

const (
	maxJob      = 1 << 20          // bytes of a posted job
	askFor      = 3 * time.Second  // what an HTTP client may have to wait for an answer
	shutdownFor = 10 * time.Second // what the end may take
)

func main() {
	addr := flag.String("http", "localhost:8001", "address to serve HTTP on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *addr); err != nil {
		log.Fatal(err)
	}
}

// service is what the HTTP handlers need of the mesh.
type service struct {
	jobs  *patterns.Push
	upper *patterns.Req
}

func run(ctx context.Context, addr string) error {
	n, err := node.Open(ctx, node.Config{})
	if err != nil {
		return err
	}
	defer n.Close()
	var s service
	// A full queue is said to the HTTP client at once, which is better than to let it wait.
	if s.jobs, err = n.Push("jobs", patterns.OnOverflow(patterns.Refuse)); err != nil {
		return err
	}
	if s.upper, err = n.Req("upper", patterns.Executed(patterns.Idempotent)); err != nil {
		return err
	}
	work, err := n.Pull("jobs")
	if err != nil {
		return err
	}
	answers, err := n.Rep("upper")
	if err != nil {
		return err
	}

	// These two end when the node shuts down, not with ctx: what was begun is finished.
	var working sync.WaitGroup
	working.Go(func() { finished(work.Handle(context.Background(), 4, do)) })
	working.Go(func() { finished(answers.ServeRequests(context.Background(), shout)) })

	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: s.routes(), ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	fmt.Printf("serving on http://%s as node %s\n", l.Addr(), n.ID())

	select {
	case err = <-served:
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.Background(), shutdownFor)
	defer cancel()
	err = errors.Join(err,
		server.Shutdown(end), // nothing new comes in, and every client has its answer
		s.jobs.Flush(end),    // while the worker of this node still works
		n.Shutdown(end))      // what was begun is finished, and the peers know
	working.Wait()
	owed := s.jobs.Stats().Ledger
	fmt.Printf("%d jobs accepted, %d done\n", owed.Accepted, owed.Done)
	return err
}

// finished tells why a handler loop ended, unless it is because the socket closed.
func finished(err error) {
	if !errors.Is(err, net.ErrClosed) {
		log.Print(err)
	}
}

// do does one job, on whichever copy of the service it was pulled.
func do(_ context.Context, m *socket.Message) error {
	fmt.Printf("did %s\n", m.Body)
	return nil
}

func shout(_ context.Context, m *socket.Message) ([]byte, error) {
	if len(m.Body) == 0 {
		return nil, errors.New("nothing to shout")
	}
	return bytes.ToUpper(m.Body), nil
}

func (s *service) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /jobs", s.post)
	mux.HandleFunc("GET /upper", s.ask)
	return mux
}

// post takes a job. 202 means what it says: accepted, and from now on owed.
func (s *service) post(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxJob))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	seq, err := s.jobs.SendMessage(r.Context(), &socket.Message{Body: body})
	if err != nil { // the queue is full, or the service is shutting down
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusAccepted)
	fmt.Fprintf(w, "job %d\n", seq)
}

// ask passes a question on and translates its outcome.
func (s *service) ask(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), askFor)
	defer cancel()
	answer, err := s.upper.Request(ctx, []byte(r.URL.Query().Get("text")))
	var remote *patterns.RemoteError
	switch {
	case err == nil:
		fmt.Fprintf(w, "%s\n", answer)
	case errors.As(err, &remote): // the handler ran and objected
		http.Error(w, remote.Message, http.StatusUnprocessableEntity)
	case errors.Is(err, patterns.ErrIndeterminate): // it may have run
		http.Error(w, err.Error(), http.StatusGatewayTimeout)
	default: // it certainly did not
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}
