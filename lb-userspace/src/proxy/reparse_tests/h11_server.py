# Reads streams of bytes as a server would; one a line of base64 in, its requests as JSON out.
import base64, json, sys, h11
latin = lambda text: bytes(text).decode("latin1")
for line in sys.stdin:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(base64.b64decode(line))
    requests = []
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            break
        if isinstance(event, h11.Request):
            requests.append({
                "method": latin(event.method), "target": latin(event.target),
                "headers": sorted([latin(name), latin(value)] for name, value in event.headers),
                "body": "", "whole": False,
            })
        elif isinstance(event, h11.Data):
            requests[-1]["body"] += latin(event.data)
        elif isinstance(event, h11.EndOfMessage):
            requests[-1]["whole"] = True
            connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
            connection.send(h11.EndOfMessage())
            if connection.our_state is not h11.DONE:
                break
            connection.start_next_cycle()
        else:
            break
    print(json.dumps(requests))
