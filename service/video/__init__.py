"""Recognition in videos and live streams: sources of frames, tracks of faces, appearances of people, WebRTC peers.

The decoding needs the extra `video` (PyAV, aiortc). Nothing of a frame is stored.
"""
