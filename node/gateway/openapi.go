package gateway

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
)

// object is a JSON object.
type object = map[string]any

// openAPI describes routes as OpenAPI 3.1 has it.
func openAPI(routes []route) []byte {
	paths := map[string]object{}
	for _, r := range routes {
		if paths[r.path] == nil {
			paths[r.path] = object{}
		}
		paths[r.path][strings.ToLower(r.method)] = r.operation()
	}
	doc := object{
		"openapi": "3.1.0",
		"info": object{"title": "peermesh gateway", "version": "1",
			"description": "A mesh of services over HTTP. Names are segments of the path: a / in one is written %2F."},
		"paths": paths,
		"components": object{
			"securitySchemes": object{"token": object{"type": "http", "scheme": "bearer"}},
			"schemas": object{"Problem": object{"type": "object", "required": []string{"type", "title", "status", "next"},
				"properties": object{"type": object{"type": "string"}, "title": object{"type": "string"}, "status": object{"type": "integer"},
					"detail": object{"type": "string"}, "next": object{"type": "string", "description": "what to do about it"}}}},
		},
	}
	text, err := json.MarshalIndent(doc, "", " ")
	if err != nil {
		panic(err) // it holds texts only
	}
	return append(text, '\n')
}

func (r route) operation() object {
	params := []object{}
	for part := range strings.SplitSeq(r.path, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			params = append(params, parameter("path", strings.TrimSuffix(name, "}"), "", true))
		}
	}
	for _, p := range r.query {
		params = append(params, parameter("query", p.name, p.about, false))
	}
	for _, p := range r.headers {
		params = append(params, parameter("header", p.name, p.about, false))
	}
	answers := object{"default": object{"description": "a problem (RFC 9457); next says what to do", "content": object{problemType: object{
		"schema": object{"$ref": "#/components/schemas/Problem"}}}}}
	for _, a := range r.answers {
		answer := object{"description": a.about}
		if a.kind != "" {
			answer["content"] = object{a.kind: object{}}
		}
		answers[strconv.Itoa(a.status)] = answer
	}
	op := object{"summary": r.about, "parameters": params, "responses": answers}
	if r.body != "" {
		op["requestBody"] = object{"description": r.body, "content": object{bytesKind: object{}}}
	}
	if r.verb != "" {
		op["security"] = []object{{"token": []string{}}}
		op["description"] = "With tokens: needs the right \"" + string(r.verb) + "\" for the name."
	}
	return op
}

func parameter(in, name, about string, required bool) object {
	p := object{"in": in, "name": name, "schema": object{"type": "string"}}
	if about != "" {
		p["description"] = about
	}
	if required {
		p["required"] = true
	}
	return p
}

func (g *Gateway) serveDoc(c *call) *Problem {
	c.w.Header().Set("Content-Type", jsonKind)
	_, _ = c.w.Write(g.doc) // to one who has gone nothing can be said
	return nil
}

var _ http.Handler = (*Gateway)(nil)
