package main

import (
	"errors"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"peermesh/node"

	"github.com/spf13/pflag"
)

// global are the flags that every verb has. Each is also an environment variable
// (--no-mdns is PEERMESH_NO_MDNS) and a key of the configuration file. The command
// line wins over the environment, that over the file, that over the default.
type global struct {
	config    string
	dir       string
	spoolKey  string
	mesh      string
	policy    string
	name      string
	namespace string
	roles     []string
	listen    string
	peers     []string
	noMDNS    bool
	udpOnly   bool
	poll      time.Duration
	stripes   int
	timeout   time.Duration
	json      bool
	quiet     bool
	logLevel  slog.Level

	file map[string][]string // what the configuration file said of them
}

const environmentPrefix = "PEERMESH_"

func (g *global) register(f *pflag.FlagSet) {
	f.StringVar(&g.config, "config", "", "YAML `file` with any of these flags as keys")
	f.StringVar(&g.dir, "dir", "", "state `directory`: who the node is and what it has to deliver outlive the process; without it the node is ephemeral")
	f.StringVar(&g.spoolKey, "spool-key-file", "", "`file` with the key that encrypts the messages kept in --dir (made with: openssl rand -hex 32)")
	f.StringVar(&g.mesh, "mesh", "", "mesh credential `file` (default: your own mesh, made on first use)")
	f.StringVar(&g.policy, "policy", "", "signed policy `file` (default: the one beside the mesh credential, if there is one)")
	f.StringVar(&g.name, "name", "", "the node's `name` (default: host name and process id)")
	f.StringVar(&g.namespace, "namespace", node.DefaultNamespace, "a `world` of its own within the mesh")
	f.StringArrayVar(&g.roles, "role", nil, "a `role` that rules of the policy may speak of; repeat for several")
	f.StringVar(&g.listen, "listen", node.DefaultListen, "UDP `address` to listen on")
	f.StringArrayVar(&g.peers, "peer", nil, "`host:port` of a peer; repeat for several")
	f.BoolVar(&g.noMDNS, "no-mdns", false, "neither look for peers on the local network nor be found there")
	f.IntVar(&g.stripes, "stripes", 0, "spread what goes to a busy peer over up to `N` connections, 2 to 4; 0: never")
	f.BoolVar(&g.udpOnly, "udp-only", false, "talk UDP to nodes on this host, too, instead of meeting them at a Unix socket")
	f.DurationVar(&g.poll, "poll", 0, "how long to look for more before sleeping, after something came: shorter round trips for CPU time, like 100us")
	f.DurationVar(&g.timeout, "timeout", 0, "bound on the whole run, like 30s (default: none; 3s to look around)")
	f.BoolVar(&g.json, "json", false, "print events as JSON, one object a line")
	f.BoolVarP(&g.quiet, "quiet", "q", false, "print nothing on stderr but errors")
	g.logLevel = slog.LevelError
	f.Var((*levelValue)(&g.logLevel), "log-level", "debug, info, warn or error: what the node logs to stderr")
}

// levelValue is a flag for slog's four levels.
type levelValue slog.Level

func (l *levelValue) String() string { return strings.ToLower(slog.Level(*l).String()) }
func (l *levelValue) Type() string   { return "level" }
func (l *levelValue) Set(s string) error {
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		if strings.EqualFold(s, level.String()) {
			*l = levelValue(level)
			return nil
		}
	}
	return errors.New("debug, info, warn or error")
}

// settle gives every flag that the command line left alone its value from the
// environment or the configuration file, and checks them all.
func (a *app) settle(flags *pflag.FlagSet) error {
	if path := flags.Lookup("config"); !path.Changed {
		if err := path.Value.Set(a.environ[environmentName(path.Name)]); err != nil {
			return err
		}
	}
	file, err := readConfig(a.global.config)
	if err != nil {
		return err
	}
	a.global.file = file
	flags.VisitAll(func(f *pflag.Flag) {
		if err != nil || f.Changed || f.Name == "config" {
			return
		}
		variable := environmentName(f.Name)
		if value := a.environ[variable]; value != "" {
			err = assign(f, "environment variable "+variable, split(f, value))
			return
		}
		err = assign(f, "configuration file "+a.global.config+": "+f.Name, file[f.Name])
	})
	if err != nil {
		return err
	}
	return a.check()
}

func environmentName(flag string) string {
	return environmentPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// split takes the commas of a repeatable flag's environment variable apart.
func split(f *pflag.Flag, value string) []string {
	if f.Value.Type() != "stringArray" {
		return []string{value}
	}
	return strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' })
}

// assign sets a flag to values from somewhere else than the command line.
func assign(f *pflag.Flag, from string, values []string) error {
	for _, v := range values {
		if err := f.Value.Set(v); err != nil {
			return usagef("%s %q: %s", from, v, plainCause(f, err))
		}
	}
	return nil
}

// check holds the global flags to what can be told before a node is opened.
func (a *app) check() error {
	g := &a.global
	if g.timeout < 0 {
		return usagef("--timeout %v is negative; give a time like 30s, or leave it out", g.timeout)
	}
	if _, port, err := net.SplitHostPort(g.listen); err != nil || !isPort(port) {
		return usagef("--listen %q is no address; write :0, :4242 or 127.0.0.1:0", g.listen)
	}
	for _, p := range g.peers {
		host, port, err := net.SplitHostPort(p)
		if err != nil || host == "" || !isPort(port) {
			return usagef("--peer %q is no address; write host:port, with brackets around IPv6: [::1]:4242", p)
		}
	}
	for name, label := range map[string]string{"name": g.name, "namespace": g.namespace} {
		if !isLabel(label) {
			return usagef("--%s %q: at most 255 bytes of UTF-8 without control characters", name, label)
		}
	}
	if err := checkRoles(g.roles); err != nil {
		return err
	}
	if g.namespace == "" {
		return usagef("--namespace is empty; leave it out for %q", node.DefaultNamespace)
	}
	if g.json {
		a.events = newEvents(a.stdout)
	}
	return nil
}

// isLabel reports whether s can be a name in a certificate.
func isLabel(s string) bool {
	return len(s) <= 255 && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// maxRoles is how many a certificate carries.
const maxRoles = 16

func checkRoles(roles []string) error {
	if len(roles) > maxRoles {
		return usagef("%d times --role, at most %d are possible", len(roles), maxRoles)
	}
	for _, r := range roles {
		if r == "" || !isLabel(r) {
			return usagef("--role %q: 1 to 255 bytes of UTF-8 without control characters", r)
		}
	}
	return nil
}

func isPort(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil
}

// logger logs what the node has to say.
func (a *app) logger() *slog.Logger {
	level := a.global.logLevel
	if a.global.quiet {
		level = max(level, slog.LevelError)
	}
	return slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: level}))
}
