package gateway

import (
	"embed"
	"net/http"
)

//go:embed page
var pageFiles embed.FS

// pagePolicy lets the page load its own files and ask its own gateway, and nothing else. No inline script or style runs.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// pageRoutes are the files of the web page. Whoever may connect may load them; what they show needs the right to see.
func pageRoutes() []route {
	file := func(path, name, kind, about string) route {
		return route{method: http.MethodGet, path: path, about: about, answers: []reply{{200, "the file", kind}}, serve: func(c *call) *Problem {
			data, err := pageFiles.ReadFile("page/" + name)
			if err != nil {
				return problemOf(err)
			}
			h := c.w.Header()
			h.Set("Content-Type", kind+"; charset=utf-8")
			h.Set("Content-Security-Policy", pagePolicy)
			h.Set("Referrer-Policy", "no-referrer")
			h.Set("Cache-Control", "no-cache")
			_, _ = c.w.Write(data) // to one who has gone nothing can be said
			return nil
		}}
	}
	return []route{
		file("/{$}", "index.html", "text/html", "A web page that shows what the node sees."),
		file("/page.css", "page.css", "text/css", "Its style."),
		file("/page.js", "page.js", "text/javascript", "Its program."),
	}
}
