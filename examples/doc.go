// Package examples is a folder of small programs, one for each pattern, one for
// transactions and one for a service that has a node inside:
//
//	go run ./examples/pushpull      work is shared out
//	go run ./examples/pubsub        news is spread
//	go run ./examples/reqrep        questions are answered
//	go run ./examples/pipeline      every message counts once, whatever is killed
//	go run ./examples/httpservice   all of it behind HTTP
//
// The first three open two nodes in one process, so that there is one file to read and
// one command to run. In two programs, on two machines, each half would be the same,
// and with node.Config{} alone the two would find each other by mDNS.
package examples
