package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"peermesh/node"
)

// The control socket of a running node with a state directory: HTTP and JSON on a
// Unix socket that only its owner may open.
//
//	GET  /v1/view           what the node sees, see view
//	GET  /v1/topology       what it and those that it is linked to see: a list of views
//	GET  /v1/why?about=Q    why something is as it is, see insight.Answer
//	GET  /v1/path?node=X    the way to the peer with that id or name, see pathView
//	GET  /v1/follow?logs=B  what happens, line by line and without end, see node.News
//	POST /v1/ping?node=X    one round trip to the peer with that id or name, see pong
//	POST /v1/tend           an order about what is on disk, see tending: one line with the
//	                        order, then what is to be imported; answered line by line
//
// view, why and follow take node=X too: then that peer is asked over the mesh.
const (
	controlName  = "ctl.sock"
	controlDraft = "ctl.new" // until its mode is right
	viewPath     = "/v1/view"
	pingPath     = "/v1/ping"
	tendPath     = "/v1/tend"
	topologyPath = "/v1/topology"
	whyPath      = "/v1/why"
	pathPath     = "/v1/path"
	followPath   = "/v1/follow"

	// controlHeader bounds the time and the bytes of a request's header.
	controlHeader = 5 * time.Second
	maxControl    = 1 << 14
)

// controlServer serves a node's control socket.
type controlServer struct {
	path   string
	server http.Server
	wg     sync.WaitGroup
}

// serveControl serves DIR/ctl.sock for as long as the verb runs. That it cannot is
// no reason to stop: then the node works and cannot be asked, and nil is returned.
func (a *app) serveControl(n *node.Node, verb string) *controlServer {
	c, err := newControl(a.global.dir, n, verb)
	if err != nil {
		a.logger().Error("this node cannot be asked for its status", "dir", a.global.dir, "err", err)
		return nil
	}
	return c
}

func newControl(dir string, n *node.Node, verb string) (*controlServer, error) {
	// The node has the directory's lock, so whatever is there was left by a process
	// that was killed.
	path, draft := shortest(filepath.Join(dir, controlName)), shortest(filepath.Join(dir, controlDraft))
	if err := os.Remove(draft); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: draft, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	// Under its name it is never there with another mode.
	if err := errors.Join(os.Chmod(draft, 0o600), os.Rename(draft, path)); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	c := &controlServer{path: path}
	mux := http.NewServeMux()
	serveSight(mux, &ownSight{n, verb})
	mux.HandleFunc("POST "+tendPath, func(w http.ResponseWriter, r *http.Request) { serveTending(w, r, n.Spool()) })
	c.server = http.Server{Handler: mux, ReadHeaderTimeout: controlHeader, MaxHeaderBytes: maxControl}
	c.wg.Go(func() { _ = c.server.Serve(l) }) // it ends when the server closes
	return c, nil
}

// shortest is the shorter spelling of a path: the name of a Unix socket has room for
// about 100 bytes.
func shortest(path string) string {
	wd, err := os.Getwd()
	if err != nil {
		return path
	}
	full, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	if rel, err := filepath.Rel(wd, full); err == nil && len(rel) < len(full) {
		return rel
	}
	return full
}

// close ends the server and removes its socket.
func (c *controlServer) close() error {
	err := c.server.Close()
	c.wg.Wait()
	return errors.Join(err, os.Remove(c.path))
}

// controlError is an answer that is none.
type controlError struct {
	Error string `json:"error"`
	Exit  int    `json:"exit"` // the exit code of the verb that asked
}

func answer(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(http.StatusUnprocessableEntity)
		v = controlError{err.Error(), exitCode(err)}
	}
	_ = json.NewEncoder(w).Encode(v) // to one who has gone nothing can be said
}

// controlClient asks the node that runs with a state directory.
type controlClient struct {
	dir    string
	client http.Client
}

func newControlClient(dir string) *controlClient {
	path := shortest(filepath.Join(dir, controlName))
	return &controlClient{dir: dir, client: http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
	}}}
}

// get makes a request. The caller closes the body.
func (c *controlClient) get(ctx context.Context, method, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://node"+path, nil)
	if err != nil {
		return nil, err
	}
	res, err := c.client.Do(req)
	var refused *net.OpError
	if errors.As(err, &refused) {
		return nil, failf(exitUnreachable, "no node runs with --dir %s; without --dir a new node looks around", c.dir)
	}
	return res, err
}

// ask makes a request and reads its answer into v.
func (c *controlClient) ask(ctx context.Context, method, path string, v any) error {
	res, err := c.get(ctx, method, path)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	dec := json.NewDecoder(res.Body)
	if res.StatusCode != http.StatusOK {
		var e controlError
		if err := dec.Decode(&e); err != nil || e.Error == "" {
			return fmt.Errorf("control socket of %s: %s; is that process of another version? peermesh version", c.dir, res.Status)
		}
		return failf(e.Exit, "%s", e.Error)
	}
	return dec.Decode(v)
}

func (c *controlClient) close() { c.client.CloseIdleConnections() }
