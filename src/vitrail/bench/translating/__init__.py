"""Translation: the speed of our engines beside CTranslate2, and what their number types cost."""
