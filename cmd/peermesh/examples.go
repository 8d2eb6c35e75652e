package main

import (
	"strings"

	"github.com/spf13/cobra"
)

// examples are those of verbs that have none beside their flags, by their path below the root.
var examples = map[string]string{
	"push":          "peermesh push jobs cat.png dog.png\npeermesh push jobs --dir state --detach < jobs.txt",
	"pull":          "peermesh pull jobs --count 10\npeermesh pull jobs --exec 'resize /dev/stdin' --concurrency 4",
	"pub":           "peermesh pub weather zurich.temp 21.5 --min-subscribers 1",
	"sub":           "peermesh sub weather '*.temp' 'basel.>'\npeermesh sub weather --durable dash --dir state",
	"req":           "peermesh req upper hello --min-repliers 1\npeermesh req upper --deadline 2s < questions.txt",
	"rep":           "peermesh rep upper --exec 'tr a-z A-Z'\npeermesh rep ping --echo",
	"init":          "peermesh init mesh.pem\npeermesh pull jobs --mesh mesh.pem",
	"version":       "peermesh version --json",
	"spool ls":      "peermesh spool ls --dir state",
	"spool stat":    "peermesh spool stat --dir state --json",
	"spool peek":    "peermesh spool peek jobs --dir state",
	"spool verify":  "peermesh spool verify --dir state",
	"spool purge":   "peermesh spool purge jobs --dir state --yes",
	"spool export":  "peermesh spool export jobs --dir state > jobs.ndjson",
	"spool import":  "peermesh spool import jobs --dir other < jobs.ndjson",
	"dlq":           "peermesh dlq ls --dir state\npeermesh dlq replay jobs 17 --dir state",
	"dlq ls":        "peermesh dlq ls --dir state",
	"dlq peek":      "peermesh dlq peek jobs --dir state",
	"dlq replay":    "peermesh dlq replay jobs 17 18 --dir state",
	"dlq drop":      "peermesh dlq drop jobs 17 --dir state --yes",
	"policy show":   "peermesh policy show --dir state",
	"policy apply":  "peermesh policy apply rules.txt --mesh mesh.pem",
	"cert show":     "peermesh cert show blue.pem",
	"cert renew":    "peermesh cert renew --mesh blue.pem --peer hub:4242",
	"bench all":     "peermesh bench all",
	"bench push":    "peermesh bench push --size 100 --reference",
	"bench pub":     "peermesh bench pub --subscribers 4",
	"bench req":     "peermesh bench req --concurrency 64",
	"bench durable": "peermesh bench durable --size 1024 --reference",
}

// exemplify gives a verb and those below it their examples. path is the verb's own. The root's verbs must not be listed
// by Commands for that: it would sort them, and what is suggested for a slip goes by their order.
func exemplify(cmd *cobra.Command, path string) {
	if e := examples[path]; e != "" && cmd.Example == "" {
		cmd.Example = "  " + strings.ReplaceAll(e, "\n", "\n  ")
	}
	for _, sub := range cmd.Commands() {
		exemplify(sub, path+" "+sub.Name())
	}
}
