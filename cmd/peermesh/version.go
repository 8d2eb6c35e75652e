package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"peermesh/internal/wire"

	"github.com/spf13/cobra"
)

func versionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		GroupID: groupSecure,
		Short:   "The version of this command and of what it speaks",
		Args:    arguments(0, 0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			v := versionOf()
			a.events.emit("version", v)
			return a.line(fmt.Sprintf("peermesh %s, protocol %d, %s %s", v.Version, v.Protocol, v.Go, v.Platform))
		},
	}
}

type versionView struct {
	Version  string `json:"version"`
	Protocol int    `json:"protocol"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// versionOf is what the build noted: the module's version, or the commit.
func versionOf() versionView {
	v := versionView{Version: "unknown", Protocol: wire.Version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if info.Main.Version != "" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && v.Version == "(devel)" {
			v.Version = s.Value
		}
	}
	return v
}
