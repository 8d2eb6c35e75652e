package metrics_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"peermesh/internal/identity"
	"peermesh/node"
	"peermesh/node/metrics"

	"github.com/prometheus/client_golang/prometheus"
)

// config keeps the example to itself: a mesh of its own, on loopback. A program begins with
// node.Config{}.
func config() (node.Config, error) {
	mesh, err := identity.NewMesh(time.Now())
	if err != nil {
		return node.Config{}, err
	}
	pem, err := mesh.Marshal()
	return node.Config{MeshPEM: pem, Listen: "127.0.0.1:0", NoMDNS: true}, err
}

// A service that has metrics of its own registers the node beside them; one that has none serves
// them as they are.
func ExampleNew() {
	cfg, err := config()
	if err != nil {
		log.Fatal(err)
	}
	n, err := node.Open(context.Background(), cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer n.Close()
	m := metrics.New(n)
	prometheus.NewRegistry().MustRegister(m)
	http.Handle("/metrics", m)

	w := httptest.NewRecorder()
	http.DefaultServeMux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for line := range strings.Lines(w.Body.String()) {
		if strings.HasPrefix(line, "peermesh_peers") {
			fmt.Print(line)
		}
	}
	// Output: peermesh_peers 0
}
